"""Two ranks with different shares of valid pixels learn what one process learns from the whole batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.train import two_ranks
from train.losses import LossConfig, SegmentationLoss

pytestmark = pytest.mark.slow  # two processes that import torch
K, IGNORE, SIZE = 4, 255, 6
GLOBAL = {
    "ce": {"ce": 1.0},
    "ce weighted, smoothed": {"ce": 1.0, "class_weights": [0.5, 1.0, 2.0, 3.0], "label_smoothing": 0.1},
    "ce over all": {"ce": 1.0, "ce_mean": "all"},
    "ce of the unsure": {"ce": 1.0, "ohem_threshold": 0.4},
    "focal": {"focal": 1.0, "focal_alpha": [0.1, 0.2, 0.3, 0.4]},
    "dice": {"dice": 1.0},
    "lovasz per image": {"lovasz": 1.0, "lovasz_per_image": True},
    "sum": {"ce": 1.0, "dice": 0.5, "focal": 0.3, "aux_weight": 0.4},
}
LOVASZ = {"lovasz": 1.0}


@dataclasses.dataclass
class Logits:
    out: torch.Tensor
    aux: torch.Tensor | None = None


def batches():
    """What is labeled -> images [4,3,H,W] float64, labels [4,H,W]; the first two are rank 0's, the others rank 1's."""
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, SIZE, SIZE, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 3, (4, SIZE, SIZE), generator=draw, dtype=torch.uint8)  # class 3 nowhere
    labels[:2][labels[:2] == 2] = 0  # class 2 on rank 1 only
    labels[1, :5] = IGNORE  # rank 0 has far fewer pixels
    one_empty = labels.clone()
    one_empty[2:] = IGNORE
    nothing = torch.full_like(labels, IGNORE)
    return {"uneven": (images, labels), "one rank empty": (images, one_empty), "nothing": (images, nothing)}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Conv2d(3, K, 1, dtype=torch.float64)
        self.aux = torch.nn.Conv2d(3, K, 2, stride=2, dtype=torch.float64)

    def forward(self, images):
        return Logits(self.head(images), self.aux(images))


def learn(net, settings, images, labels):
    """-> the loss's parts, the gradients of all parameters."""
    net.zero_grad(set_to_none=False)
    module = SegmentationLoss(LossConfig(**settings), K).train()
    loss, parts = module(net(images), labels)
    loss.backward()
    return parts, [p.grad.clone() for p in net.parameters()]


def work(rank):
    mine = slice(2 * rank, 2 * rank + 2)
    found = {}
    for labeled, (images, labels) in batches().items():
        for name, settings in {**GLOBAL, "lovasz": LOVASZ}.items():
            net = DistributedDataParallel(Net())
            found[labeled, name] = learn(net, settings, images[mine], labels[mine])
    if rank == 0:  # validation may differ in length from rank to rank: there, a rank asks nobody
        images, labels = batches()["uneven"]
        with torch.no_grad():
            own, _ = SegmentationLoss(LossConfig(ce=1.0, dice=1.0), K).eval()(Net()(images[mine]), labels[mine])
        found["evaluation"] = own
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return two_ranks.run(work, tmp_path_factory.mktemp("ranks"))


LABELED = pytest.mark.parametrize("labeled", ["uneven", "one rank empty", "nothing"])


@LABELED
@pytest.mark.parametrize("name", GLOBAL)
def test_two_ranks_learn_what_one_learns(found, labeled, name):
    parts, grads = learn(Net(), GLOBAL[name], *batches()[labeled])
    (parts_0, grads_0), (parts_1, grads_1) = (rank[labeled, name] for rank in found)
    for part, value in parts.items():
        assert ((parts_0[part] + parts_1[part]) / 2).item() == pytest.approx(value.item(), rel=1e-6), part
    for ours, other, expected in zip(grads_0, grads_1, grads, strict=True):
        assert torch.equal(ours, other)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-12)
    assert labeled == "nothing" or any(grad.any() for grad in grads)


@LABELED
def test_lovasz_over_the_batch_is_the_mean_over_ranks_with_a_pixel(found, labeled):
    images, labels = batches()[labeled]
    each = [
        learn(Net(), LOVASZ, images[half], labels[half])
        for half in (slice(0, 2), slice(2, 4))
        if (labels[half] != IGNORE).any()
    ]
    ours = sum(rank[labeled, "lovasz"][0]["loss"].item() for rank in found) / 2
    assert ours == pytest.approx(sum(parts["loss"].item() for parts, _ in each) / max(1, len(each)), rel=1e-6)
    for index, grad in enumerate(found[0][labeled, "lovasz"][1]):
        expected = sum((grads[index] for _, grads in each), start=torch.zeros_like(grad)) / max(1, len(each))
        torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-12)


def test_evaluation_asks_no_other_rank(found):
    images, labels = batches()["uneven"]
    own, _ = SegmentationLoss(LossConfig(ce=1.0, dice=1.0), K)(Net()(images[:2]), labels[:2])
    assert found[0]["evaluation"].item() == pytest.approx(own.item())
