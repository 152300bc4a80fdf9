"""JupyterLab in a real browser: run a notebook with the mouse, move a slider with the keyboard, see the figure change."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CODE = """
import ipywidgets
import matplotlib.pyplot as plt
from workbench.widgets import explorer


def draw(n):
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.bar(range(n), range(n))
    return figure


explorer(draw, n=ipywidgets.IntSlider(3, 1, 9, description="bars"))
"""
TOKEN = "lab-test"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab")
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": CODE, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (root / "x.ipynb").write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    config = root / "config" / "labconfig"
    config.mkdir(parents=True)
    # The question about Jupyter news would cover a corner of the page.
    (config / "default_setting_overrides.json").write_text(
        json.dumps({"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = {**os.environ, **{name: str(root / name.lower()) for name in own}, "JUPYTER_CONFIG_DIR": str(root / "config")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}", "--ip=127.0.0.1"]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: api(address, "status"), 90, "the server")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def api(address, path):
    try:
        return json.load(urllib.request.urlopen(f"{address}/api/{path}?token={TOKEN}", timeout=5))
    except OSError:
        return None


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds} s for {what}")


def test_run_all_and_move_a_slider(lab, page):
    page.goto(f"{lab}/doc/tree/x.ipynb?token={TOKEN}")
    quiet = []

    def settled():  # a second session may still be connecting when the kernel first says idle
        kernels = api(lab, "kernels") or []
        quiet.append(len(kernels) == 1 and kernels[0]["execution_state"] == "idle" and kernels[0]["connections"] == 1)
        return all(quiet[-3:]) and len(quiet) >= 3

    wait_for(settled, 90, "a kernel")
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    image = page.locator(".jp-OutputArea-output img").first
    image.wait_for(timeout=90_000)

    def frame():
        return hashlib.sha256(
            image.evaluate("async i => Array.from(new Uint8Array(await (await fetch(i.src)).arrayBuffer())).join()").encode()
        ).hexdigest()

    first = frame()
    handle = page.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowRight")
    wait_for(lambda: frame() != first, 20, "the figure to follow the slider")
    second = frame()
    handle.press("ArrowLeft")
    wait_for(lambda: frame() == first, 20, "the figure to come back")
    assert second != first
    assert [a for a in page.asked if not a.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))] == []
