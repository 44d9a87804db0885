"""Channels-last logits are not copied class by class on their way to the loss, and the loss is the same either way."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from train.losses import LossConfig, SegmentationLoss
from train.losses.pixelwise import log_probabilities


class Out:
    def __init__(self, out: torch.Tensor) -> None:
        self.out, self.aux = out, None


def batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (2, 12, 17), generator=generator)
    labels[0, :3] = 255
    return torch.randn(2, classes, 12, 17, generator=generator), labels.to(torch.uint8)


def test_log_probabilities_keep_channels_last() -> None:
    logits = batch(19)[0].contiguous(memory_format=torch.channels_last)
    found = log_probabilities(logits)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, F.log_softmax(logits, dim=1))
    assert log_probabilities(logits, by_class=True).is_contiguous()


@pytest.mark.parametrize("classes", [3, 19])
@pytest.mark.parametrize(
    "terms",
    [{}, {"label_smoothing": 0.1}, {"ohem_fraction": 0.3}, {"ce": 0.0, "focal": 1.0}, {"ce": 0.0, "dice": 1.0}],
)
def test_the_loss_does_not_depend_on_the_layout(classes: int, terms: dict[str, float]) -> None:
    logits, labels = batch(classes)
    loss = SegmentationLoss(LossConfig(**terms), classes)
    values, grads = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = logits.contiguous(memory_format=layout).requires_grad_()
        value, _ = loss(Out(leaf), labels)
        values.append(value)
        grads += torch.autograd.grad(value, leaf)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(grads[0], grads[1])
