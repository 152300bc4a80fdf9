"""What a run loads before its first notebook: nobody should wait for what is not used."""

import subprocess
import sys
from importlib.metadata import version

import pytest


def loaded_by(code, module):
    """Whether the code, in a process of its own, leaves this module loaded."""
    script = f"import sys\n{code}\nprint(sys.modules.get({module!r}) is not None)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.strip() == "True"


@pytest.mark.skipif(not version("torch").endswith("+cpu"), reason="a CUDA build is asked for its GPUs")
def test_the_runner_needs_no_torch():
    """Fingerprints and the number of GPUs come without torch where its build has no CUDA."""
    code = (
        "from workbench.batch import devices, fingerprint\nfingerprint.surroundings_here(); assert devices.visible_gpus() == []"
    )
    assert not loaded_by(code, "torch") and loaded_by("import torch", "torch")


def test_a_page_needs_no_grammar_of_addresses(tmp_path):
    """nbformat comes without the slow module, which everybody else can still import."""
    use = "from workbench.batch.html import _nbformat\n_nbformat()"
    assert not loaded_by(use, "rfc3987_syntax") and not loaded_by(use, "lark")
    assert loaded_by(f"{use}\nimport rfc3987_syntax", "rfc3987_syntax")
