"""TF32 and cuDNN's autotuner: what the recipe says, on GPUs only, and no longer than wanted."""

from __future__ import annotations

import warnings

import pytest
import torch

from train import backends

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def as_before():
    precision, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = convolutions


@pytest.mark.parametrize(("allowed", "precision"), [(True, "high"), (False, "highest")])
def test_products_and_convolutions_alike_without_a_deprecation(allowed: bool, precision: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backends.set_tf32(allowed, GPU)
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cudnn.allow_tf32 is allowed and torch.backends.cuda.matmul.allow_tf32 is allowed


def test_a_cpu_is_left_alone() -> None:
    """Its own reduced precisions would change the digits of a run."""
    before = torch.get_float32_matmul_precision()
    backends.set_tf32(True, CPU)
    assert torch.get_float32_matmul_precision() == before == "highest"
    with backends.autotuned(True, CPU):
        assert not torch.backends.cudnn.benchmark


def test_autotuning_ends_with_its_block() -> None:
    with backends.autotuned(True, GPU):
        assert torch.backends.cudnn.benchmark
        with pytest.raises(KeyError), backends.autotuned(False, GPU):
            assert not torch.backends.cudnn.benchmark
            raise KeyError
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
