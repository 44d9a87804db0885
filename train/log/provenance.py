"""Where numbers come from: versions, device, commit."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

_PACKAGES = (
    *("torch", "torchvision", "nvidia-dali-cuda120", "timm", "numpy"),
    *("opencv-python-headless", "simplejpeg", "deflate", "webdataset"),
)


@cache
def versions() -> dict[str, str]:
    """Packages, Python, processor, GPU and the commit of this code, as plain strings."""
    found = {name: _version(name) for name in ("segrail", *_PACKAGES)}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {**found, "python": platform.python_version(), "cpu": _cpu(), "gpu": gpu, "commit": _commit()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


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
