"""Marks and fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REALDATA = Path(os.environ.get("SEGRAIL_REALDATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips `gpu` tests without a GPU and `realdata` tests without the samples, each saying why."""
    import torch

    no_gpu = pytest.mark.skip(reason="needs an NVIDIA GPU")
    no_data = pytest.mark.skip(reason=f"needs real samples in {REALDATA} (or $SEGRAIL_REALDATA)")
    has_gpu = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(no_gpu)
        if item.get_closest_marker("realdata") and not REALDATA.is_dir():
            item.add_marker(no_data)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real samples: camvid/, cityscapes/, ade20k/, voc/. Use with @pytest.mark.realdata."""
    return REALDATA
