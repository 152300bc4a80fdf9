"""One lock, applied everywhere: constraints, extras, environment.yml and the Makefile say the same."""

import re
import tomllib
from importlib.metadata import distribution

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workbench.batch.notebooks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = {}
for _line in (ROOT / "constraints.txt").read_text().splitlines():
    if _line and not _line.startswith("#"):
        _name, _version = _line.split("==")
        LOCK[canonicalize_name(_name)] = _version


def requirements():
    listed = [r for name, group in EXTRAS.items() if name != "all" for r in group]
    return [Requirement(r) for r in (*PROJECT["dependencies"], *listed)]


def test_every_requirement_is_locked_to_a_version_it_allows():
    for requirement in requirements():
        version = LOCK[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"


def test_the_lock_serves_cpu_and_cuda_builds_and_names_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert LOCK["torch"] == "2.13.0" and "+" not in "".join(LOCK.values())
    assert not re.search(r"nvidia|triton|torchvision|https?:|file:|@", text)


def test_conda_users_get_the_same_set():
    """environment.yml installs the extra `all`, which holds every other extra, under the same constraints."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-c constraints.txt", "-e .[all]"]
    (everything,) = EXTRAS["all"]
    assert set(Requirement(everything).extras) == set(EXTRAS) - {"all"}
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert python.removeprefix("python=") in PROJECT["requires-python"]


def test_every_install_of_the_makefile_is_constrained():
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert lines and all("-c constraints.txt" in line or "--no-deps" in line for line in lines)


def test_what_is_installed_is_what_the_lock_says():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        installed = distribution(requirement.name).version.split("+")[0]
        assert installed == LOCK[canonicalize_name(requirement.name)], requirement.name


@pytest.mark.parametrize("target", ["help", "run", "test", "lint", "lab", "doctor", "weights"])
def test_the_makefile_has_the_target_and_help_lists_it(target):
    text = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:.*##", text, flags=re.M)
    assert re.search(rf"^\.PHONY:.*\b{target}\b", text, flags=re.M)


def test_no_machine_path_in_the_project():
    """Nothing but git-ignored files may name a folder of the machine it was written on."""
    import subprocess

    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    texts = [ROOT / n for n in names if n.endswith((".py", ".md", ".yaml", ".yml", ".toml", ".ipynb", ".txt", "Makefile"))]
    guilty = [p.name for p in texts if p.exists() and str(ROOT.parent) + "/" in p.read_text(encoding="utf8", errors="replace")]
    assert not guilty
