"""Parameter counts at 21 classes against published ones: the nets are the nets they are named after."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from torch import nn

import nets
from nets.measure import measure

# in millions, as published to two decimals; see each net's docstring for what explains the others
PUBLISHED: list[tuple[str, dict[str, Any], float]] = [
    ("fcn", {"backbone": "resnet50", "output_stride": 8, "skips": 0, "aux": True}, 35.32),  # torchvision
    ("deeplabv3plus", {"backbone": "resnet50"}, 40.35),  # yassouali/pytorch-segmentation, as the next three
    ("deeplabv3plus", {"backbone": "resnet101"}, 59.34),
    ("deeplabv3plus", {"backbone": "xception65"}, 54.71),
    # mmsegmentation's models at 21 classes, aux included: 43.6, 49.5, 29.1 and 66.4 M in its reports
    (
        "deeplabv3plus",
        {"backbone": "resnet50c", "separable": True, "form": "mmsegmentation", "aux": True},
        43.59,
    ),
    ("fcn", {"backbone": "resnet50c", "output_stride": 8, "skips": 0, "form": "mmsegmentation", "aux": True}, 49.5),
    ("unet", {"form": "mmsegmentation", "aux": True}, 29.06),
    ("gcn", {"kernel_size": 11, "deconvolution": False}, 25.39),
    ("unet", {"backbone": "resnet50"}, 32.52),  # segmentation_models.pytorch
]
# what is published, less what ours leaves out (or more by what it adds)
EXPLAINED: list[tuple[str, dict[str, Any], float, float]] = [
    ("fcn", {}, 134.49, -(21 * 21 * 16 * 16) / 1e6),  # the last upsampling is fixed, as in the paper
    ("segnet", {}, 29.49, -(64 * 64 * 9 + 3 * 64) / 1e6),  # one more decoder convolution with its norm
    ("upernet", {"channels": 256}, 37.29, -2 * (256 + 512 + 1024 + 2048) / 1e6),  # layer norms over a ResNet, too
    ("upernet", {"channels": 256, "norms": True}, 37.29, 0.0),
    # the authors' ASPP: three more 3x3 convolutions of 2048 channels to 21 classes x 8 x 8 cells
    ("duc", {}, 67.27, 3 * 21 * 64 * (2048 * 9 + 1) / 1e6),
    ("duc", {"aspp": False}, 67.27, 0.0),
]


def millions(name: str, options: dict[str, Any]) -> float:
    total, _ = measure(functools.partial(nets.build, name, 21, **options), 64)
    return total.parameters / 1e6


@pytest.mark.parametrize(("name", "options", "expected"), PUBLISHED)
def test_as_published(name: str, options: dict[str, Any], expected: float) -> None:
    assert millions(name, options) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("name", "options", "published", "difference"), EXPLAINED)
def test_differences_are_explained(name: str, options: dict[str, Any], published: float, difference: float) -> None:
    assert millions(name, options) == pytest.approx(published + difference, abs=0.006)


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "convnext_tiny"])
def test_upernet_over_swin_and_convnext_is_as_published(backbone: str) -> None:
    """Both papers' tables say 60 M, for ADE20K's 150 classes and with the auxiliary head."""
    total, _ = measure(functools.partial(nets.build, "upernet", 150, backbone=backbone, aux=True), 64)
    assert total.parameters / 1e6 == pytest.approx(60, abs=0.5)


def test_multiply_adds_of_a_convolution() -> None:
    class Tiny(nn.Sequential):
        pass

    total, parts = measure(lambda: Tiny(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)), 16)
    assert total.macs == 16 * 16 * (3 * 8 * 9 + 8 * 2)
    assert [parts[key].macs for key in ("0", "1")] == [16 * 16 * 3 * 8 * 9, 16 * 16 * 8 * 2]
    assert parts["0"].parameters == 3 * 8 * 9 + 8
