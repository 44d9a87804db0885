"""Where numbers come from: versions, device, commit."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

from pipeline.versions import PIXELS, dali_packages, gpu, installed

_PACKAGES = ("segrail", "torchvision", "timm", "webdataset", *PIXELS)


@cache
def versions() -> dict[str, str]:
    """Packages, Python, processor, GPU with its driver and libraries, and the commit of this code, as plain strings."""
    found = {**dict.fromkeys(_PACKAGES, "not installed"), **installed((*_PACKAGES, *dali_packages()))}
    machine = {"python": platform.python_version(), "cpu": _cpu(), "gpu": "none", **gpu()}
    return {**found, **machine, "commit": _commit()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        run = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(run, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
