"""Encoders of many families, in every net that takes one."""

from __future__ import annotations

import pytest
import torch

import nets
from nets.encoders import Encoder

FAMILIES = [
    "convnext_atto",
    "densenet121",
    "edgenext_xx_small",
    "efficientnet_b0",
    "fastvit_t8",
    "hrnet_w18_small",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "pvt_v2_b0",
    "regnety_002",
    "repvit_m1",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "vgg11_bn",
    "xception41",
]
MODERN = ["convnext_atto", "efficientnet_b0", "mobilenetv4_conv_small", "swin_tiny_patch4_window7_224"]
TAKES_ENCODERS = [name for name in nets.list_nets() if "backbone" in nets.options(name)]


@pytest.mark.parametrize("name", FAMILIES)
def test_feature_maps_are_as_announced(name: str) -> None:
    encoder = Encoder(name).eval()
    side = 2 * encoder.pad_stride
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, side, 2 * side).contiguous(memory_format=torch.channels_last))
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (1, channels, side // stride, 2 * side // stride)


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "regnety_002", "resnet18", "xception41"])
@pytest.mark.parametrize("stride", [8, 16])
def test_dilates_to_the_stride_asked_for(name: str, stride: int) -> None:
    assert Encoder(name, output_stride=stride).strides[-1] == stride


def check_trains_and_segments(net_name: str, encoder: str) -> None:
    torch.manual_seed(0)
    net = nets.build(net_name, 4, backbone=encoder).train()
    net(torch.randn(2, 3, 64, 96)).out.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        assert net.eval()(torch.randn(1, 3, 67, 45)).shape == (1, 4, 67, 45)


@pytest.mark.parametrize("net_name", TAKES_ENCODERS)
def test_mobilenetv4_in_every_net(net_name: str) -> None:
    check_trains_and_segments(net_name, "mobilenetv4_conv_small")


def test_only_what_no_output_needs_is_frozen() -> None:
    """HRNet's finest scales, in a net that reads the coarsest; and nothing in one that reads them all."""
    few, all_scales = (nets.build(name, 4, backbone="hrnet_w18_small") for name in ("pspnet", "unet"))
    frozen = [name for name, p in few.named_parameters() if not p.requires_grad]
    assert frozen and all("stage4" in name or "incre_modules" in name for name in frozen)
    assert all(p.requires_grad for p in all_scales.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [name for name in FAMILIES if name != "mobilenetv4_conv_small"])
@pytest.mark.parametrize("net_name", TAKES_ENCODERS)
def test_every_family_in_every_net(net_name: str, encoder: str) -> None:
    check_trains_and_segments(net_name, encoder)


@pytest.mark.parametrize("name", ["inception_v3", "maxvit_tiny_tf_224"])
def test_encoders_of_fixed_sizes_are_refused_at_once(name: str) -> None:
    with pytest.raises(nets.NetError, match="choose another"):
        nets.build("unet", 4, backbone=name)
