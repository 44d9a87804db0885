"""TF32 and cuDNN's autotuner: what the recipe says, on GPUs only, and no longer than wanted."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from ingest.errors import UserError
from train import backends, build, config, loop
from train.distributed import Ranks

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


def test_determinism_is_asked_of_torch_on_gpus_alone_and_no_longer_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with backends.deterministic(True, CPU), backends.deterministic(False, GPU):
        assert not torch.are_deterministic_algorithms_enabled() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with backends.autotuned(True, GPU), backends.deterministic(True, GPU):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_deterministic_kernel_is_named() -> None:
    """torch's own words, as its CUDA kernels raise them."""
    words = "does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'"
    with (
        pytest.raises(UserError, match=r"train\.deterministic = true, but adaptive_avg_pool2d_backward_cuda has no"),
        backends.deterministic(True, GPU),
    ):
        raise RuntimeError(f"adaptive_avg_pool2d_backward_cuda {words}")
    with pytest.raises(RuntimeError, match="another"), backends.deterministic(True, GPU):
        raise RuntimeError("another")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
def test_two_runs_on_a_gpu_give_the_same_weights(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 5, "device": "gpu", "deterministic": True}
    found = []
    for name in ("a", "b"):
        run = build.run(config.parse(raw_recipe), Ranks(0, 1, 0, 1, GPU), tmp_path / name)
        loop.train(run)
        found.append(run.net.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
