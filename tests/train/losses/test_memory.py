"""What the losses cost at COCO-Stuff's 171 classes and 512 x 512: the multiples that their docstrings state."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from train.losses import LossConfig, SegmentationLoss

K, SIZE = 171, 512
STATUS = Path("/proc/self/status")


def resident_peak() -> int:
    """The most memory that this process ever held, bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def multiple(settings: dict) -> float:
    """Forward and backward in a process of its own -> peak growth in sizes of the float32 logits."""
    torch.set_num_threads(1)
    loss = SegmentationLoss(LossConfig(**settings), K)
    small = torch.randn(1, K, 16, 16, requires_grad=True)  # what torch loads once is not the loss's
    loss(SimpleNamespace(out=small, aux=None), torch.zeros(1, 16, 16, dtype=torch.uint8))[0].backward()
    logits = torch.randn(1, K, SIZE, SIZE, requires_grad=True)
    labels = torch.randint(0, K, (1, SIZE, SIZE), dtype=torch.uint8)
    before = resident_peak()
    loss(SimpleNamespace(out=logits, aux=None), labels)[0].backward()
    return (resident_peak() - before) / logits.nbytes


@pytest.mark.slow
@pytest.mark.skipif("VmHWM" not in (STATUS.read_text() if STATUS.exists() else ""), reason="needs Linux's VmHWM")
@pytest.mark.parametrize(
    ("settings", "stated"),
    [
        ({"ce": 1.0}, 3.0),
        ({"ce": 1.0, "label_smoothing": 0.1}, 3.0),
        ({"focal": 1.0}, 3.1),
        ({"dice": 1.0}, 4.1),
        ({"lovasz": 1.0}, 3.1),
        ({"lovasz": 1.0, "lovasz_classes": "all"}, 3.1),
        ({"ce": 1.0, "lovasz": 0.5}, 3.1),
    ],
    ids=str,
)
def test_peak_is_the_stated_multiple_of_the_logits(settings, stated):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(multiple, settings).result()
    # at least the log-probabilities and the logits' gradient: less would mean that nothing was measured
    assert 2 <= found <= stated + 0.4, f"{found:.2f} times the logits"
