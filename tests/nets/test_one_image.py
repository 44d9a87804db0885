"""One image at a time: which nets cannot, found out before training starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import nets

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("name", "options", "size", "norm"),
    [
        ("pspnet", {"backbone": "resnet18"}, (64, 96), "net.pyramid.branches.0.1"),
        ("upernet", {"backbone": "resnet18", "channels": 16}, (64, 96), "net.pyramid.branches.0.1"),
        ("deeplabv3plus", {"backbone": "resnet18"}, (64, 96), "net.aspp.pool.1"),
        ("deeplabv3plus", {"backbone": "mobilenetv4_conv_small"}, (64, 96), "net.aspp.pool.1"),
        ("enet", {}, (64, 96), None),
        ("unet", {"backbone": "resnet18"}, (64, 96), None),
        ("unet", {"backbone": "resnet18"}, (32, 32), "net.encoder.model.layer4.0.bn1"),
        ("gcn", {"backbone": "resnet18"}, (40, 64), None),
    ],
)
def test_the_norm_is_named_exactly_where_torch_refuses(
    name: str, options: dict[str, Any], size: tuple[int, int], norm: str | None
) -> None:
    segmenter = nets.Segmenter(nets.build(name, 3, **options), MEAN, STD).train()
    assert nets.norm_of_one_value(segmenter, 3, size) == norm
    image = torch.zeros(1, 3, *size)
    if norm is None:
        segmenter(image)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            segmenter(image)


def test_frozen_norms_need_no_second_image() -> None:
    segmenter = nets.Segmenter(nets.build("pspnet", 3, backbone="resnet18"), MEAN, STD, freeze_bn="all")
    assert nets.norm_of_one_value(segmenter, 3, (64, 64)) is None
