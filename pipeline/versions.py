"""Versions of what makes pixels and runs nets, and whether DALI's CUDA is torch's."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version

# Of the packages that decide pixels.
PIXELS = ("numpy", "torch", "opencv-python-headless", "simplejpeg", "deflate")
_DALI = re.compile(r"nvidia-dali-cuda(\d+)")


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def pixels() -> dict[str, str]:
    """Versions of Python, the machine and the packages that decide pixels."""
    made_by = installed((*PIXELS[:2], *dali_packages(), *PIXELS[2:]))
    return {"python": platform.python_version(), "machine": platform.machine(), **made_by}


@cache
def dali_packages() -> tuple[str, ...]:
    """Names of the installed DALI packages, such as nvidia-dali-cuda130: one for each CUDA."""
    names = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
    return tuple(sorted(name for name in names if _DALI.fullmatch(name)))


def gpu() -> dict[str, str]:
    """Driver, CUDA, cuDNN, NCCL, DALI and nvImageCodec as they are loaded; empty without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    import nvidia.dali
    from nvidia.dali import backend

    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "dali": f"{nvidia.dali.__version__} (CUDA {nvidia.dali.__cuda_version__ // 1000})",
        "nvimagecodec": str(backend.GetNvimgcodecVersion()),  # type: ignore[attr-defined]  # its stubs lag
    }


def cuda_mismatch(torch_cuda: str | None, packages: Iterable[str]) -> str | None:
    """A line for the user where no installed DALI is built for torch's major version of CUDA; else None.

    Both would work in one process as far as the driver serves both, but with two CUDA runtimes; nobody tests that.
    """
    packages = tuple(packages)
    if torch_cuda is None or not packages:
        return None
    wanted = torch_cuda.partition(".")[0]
    if any(match[1].startswith(wanted) for name in packages if (match := _DALI.fullmatch(name))):
        return None
    return (
        f"note: {', '.join(packages)} brings another CUDA than torch's {torch_cuda}; the one that fits: "
        f"pip uninstall {packages[0]}, then pip install nvidia-dali-cuda{wanted}0"
    )


def _driver() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({error})"
    return done.stdout.split()[0] if done.stdout.split() else "unknown"
