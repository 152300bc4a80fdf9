"""`workbench lab` in a real browser: start page, a notebook by a click, all cells run, a slider moved by keyboard, the figure follows."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from workbench import lab

CODE = """
import sys

import torch
from workbench.widgets import temperature_explorer

x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
print("python:", sys.executable)
temperature_explorer(x, x)
"""
TOKEN = "lab-test"


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A folder of notebooks with one lesson."""
    folder = tmp_path / "notebooks"
    (folder / "00-start").mkdir(parents=True)
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": "# One row, moved"}
    code = {"cell_type": "code", "id": "c", "metadata": {}, "source": CODE, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = {"cells": [title, code], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "00-start" / "row.ipynb").write_text(json.dumps(content))
    monkeypatch.setenv("WORKBENCH_NOTEBOOKS", str(folder))
    return folder


def test_start_page_lists_every_notebook_that_is_there():
    """Each link leads to a file, every notebook of the collection has one, and each is named by its title."""
    from workbench.batch.notebooks import find_notebooks, notebooks_dir

    page = lab.start_page()
    links = {target: words for words, target in re.findall(r"\[(.+?)\]\((\S+?\.ipynb)\)", page)}
    assert set(links) == {f"{n.part}/{n.path.name}" for n in find_notebooks()} and len(links) > 5
    assert all((notebooks_dir() / target).is_file() for target in links)
    assert links["00-start/tour.ipynb"] == "Four things that go wrong in learned representations"
    assert page.index("tour.ipynb") < page.index("01-geometry/"), "the tour stands first"


def test_the_start_page_is_no_notebook_of_the_collection(collection):
    """What `workbench lab` writes there changes nothing for `workbench run`."""
    from workbench.batch.notebooks import find_notebooks

    before = find_notebooks()
    (collection / lab.START).write_text(lab.start_page())
    assert find_notebooks() == before and len(before) == 1


@pytest.fixture
def server(tmp_path, collection, monkeypatch):
    """`workbench lab --no-browser` with a user's folders of its own."""
    own = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    for name in own:
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    config = {"IdentityProvider": {"token": TOKEN}, "ServerApp": {"allow_root": True, "ip": "127.0.0.1", "port_retries": 0}}
    (tmp_path / "jupyter_config_dir").mkdir()
    (tmp_path / "jupyter_config_dir" / "jupyter_server_config.json").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "workbench", "lab", "--no-browser", f"--port={port}"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: api(address, "status"), 120, "the server")
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


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


@pytest.mark.browser
@pytest.mark.slow
def test_from_the_start_page_to_a_slider(server, page):
    page.set_default_timeout(120_000)
    page.goto(f"{server}/?token={TOKEN}")
    page.locator(".jp-RenderedMarkdown h1", has_text="Start here").wait_for()
    page.locator(".jp-RenderedMarkdown a", has_text="One row, moved").click()
    quiet = []

    def settled():  # a second session may still be connecting when the kernel first says idle
        kernels = api(server, "kernels") or []
        quiet.append(len(kernels) == 1 and kernels[0]["execution_state"] == "idle" and kernels[0]["connections"] == 1)
        return all(quiet[-3:]) and len(quiet) >= 3

    wait_for(settled, 120, "a kernel")
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    image = page.locator(".jp-OutputArea-output img").first
    image.wait_for()
    assert f"python: {sys.executable}" in page.locator(".jp-OutputArea").first.inner_text(), "a kernel of another environment"

    def frame():
        return hashlib.sha256(
            image.evaluate("async i => Array.from(new Uint8Array(await (await fetch(i.src)).arrayBuffer())).join()").encode()
        ).hexdigest()

    first = frame()
    slider = page.locator(".widget-slider", has_text="temperature").locator('[role="slider"]')
    slider.focus()
    slider.press("ArrowRight")
    wait_for(lambda: frame() != first, 60, "the figure to follow the slider")
    slider.press("ArrowLeft")
    wait_for(lambda: frame() == first, 60, "the figure to come back")
    assert page.locator('.jupyter-widgets [role="status"]').inner_text().startswith("Figure"), "a screen reader gets the words"
    assert page.get_by_label("anchor").count() == 1, "a choice is found by its label"
    assert [a for a in page.asked if not a.startswith((server, server.replace("http", "ws"), "data:", "blob:"))] == []
