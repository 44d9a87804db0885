"""Versions name what is there; a DALI for another CUDA than torch's is told with its remedy."""

from __future__ import annotations

import pytest
import torch

from pipeline import versions
from pipeline.feeding import Feeding
from pipeline.gpu.batches import warn_of_mismatch


@pytest.mark.parametrize(
    ("cuda", "packages"),
    [
        ("13.0", ["nvidia-dali-cuda130"]),
        ("12.8", ["nvidia-dali-cuda120"]),
        ("12.8", ["nvidia-dali-cuda110", "nvidia-dali-cuda120"]),
        (None, ["nvidia-dali-cuda120"]),
        ("13.0", []),
    ],
)
def test_what_fits_says_nothing(cuda: str | None, packages: list[str]) -> None:
    assert versions.cuda_mismatch(cuda, packages) is None


@pytest.mark.parametrize(("cuda", "package", "remedy"), [("13.0", "120", "130"), ("12.6", "130", "120")])
def test_what_does_not_fit_names_the_right_package(cuda: str, package: str, remedy: str) -> None:
    line = versions.cuda_mismatch(cuda, [f"nvidia-dali-cuda{package}"])
    assert line is not None and "\n" not in line
    assert f"nvidia-dali-cuda{package} brings another CUDA than torch's {cuda}" in line
    assert line.endswith(f"pip install nvidia-dali-cuda{remedy}")


def test_versions_are_those_that_are_installed() -> None:
    found = versions.pixels()
    assert {"python", "machine", "numpy", "torch", "simplejpeg"} <= set(found)
    assert any(name.startswith("nvidia-dali-cuda") for name in found)
    assert versions.installed(["numpy", "no-such-package"]) == {"numpy": found["numpy"]}


def test_the_first_rank_with_a_gpu_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(versions, "dali_packages", lambda: ("nvidia-dali-cuda120",))
    gpu = torch.device("cuda", 0)
    for feeding in (Feeding(), Feeding(gpu, rank=1, ranks=2)):
        warn_of_mismatch(feeding)
        assert capsys.readouterr().err == ""
    warn_of_mismatch(Feeding(gpu))
    assert capsys.readouterr().err.count("nvidia-dali-cuda130") == 1
