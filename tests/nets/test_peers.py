"""The same weights in torchvision's and segmentation_models.pytorch's nets give the same logits, where designs agree.

Where they do not, and why:

- PSPNet: segmentation_models.pytorch cuts the encoder off after res3, leaves batch norm out of the 1x1 bin, aligns
  corners when upsampling, and joins with a 1x1 convolution. Ours follows the paper and its released code: the whole
  encoder, dilated to stride 8, batch norm in all bins, a 3x3 convolution. Our pyramid is compared with that of
  segmentation_models.pytorch's UPerNet, which is the paper's.
- DeepLabV3+: segmentation_models.pytorch puts a separable convolution behind ASPP, has one instead of two in the
  decoder, and aligns corners, so that features are only in register at sizes 16 n + 1. ASPP itself agrees.
- UPerNet: segmentation_models.pytorch has layer norms on the features of every encoder, ours (by default) on those of
  ConvNeXt and Swin, as their published results; compared with and without. Its last upsampling aligns corners; logits
  are compared before it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import nets
from nets import peer_names
from nets.aspp import ASPP
from nets.ppm import PyramidPooling

pytestmark = pytest.mark.peers
segmentation = pytest.importorskip("torchvision.models.segmentation")


def carry_over(source: nn.Module, target: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Copies the weights below each of source's modules into target's: the same layers in the same order."""
    for source_name, target_name in pairs:
        theirs = source.get_submodule(source_name).state_dict()
        ours = target.get_submodule(target_name).state_dict()
        assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()], (source_name, target_name)
        target.get_submodule(target_name).load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def renamed(theirs: nn.Module, net: str) -> dict[str, torch.Tensor]:
    """By the names that `train.init_from` gives them."""
    names = peer_names.recognize(theirs.state_dict(), net)
    assert names is not None and names.net == net
    return names.rename(theirs.state_dict())


def shaken(module: nn.Module) -> nn.Module:
    """With running statistics and affine parameters other than 0 and 1, so that a norm in the wrong place shows."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.1, 0.1), (part.running_var, 0.8, 1.2)):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            with torch.no_grad():
                part.weight.uniform_(0.8, 1.2, generator=generator)
                part.bias.uniform_(-0.1, 0.1, generator=generator)
    return module.eval()


def images(height: int = 96, width: int = 128, channels: int = 3) -> torch.Tensor:
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def smp() -> Any:
    return pytest.importorskip("segmentation_models_pytorch")


@torch.no_grad()
def test_fcn_r50_is_torchvisions() -> None:
    theirs = shaken(segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    ours = nets.build("fcn", 21, backbone="resnet50", output_stride=8, skips=0, aux=True).eval()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    ours.load_state_dict(renamed(theirs, "fcn"))
    expected = theirs(images())
    assert_same(ours(images()), expected["out"])
    features = ours.encoder(images())
    assert_same(nn.functional.interpolate(ours.aux_head(features[-2]), (96, 128), mode="bilinear"), expected["aux"])


@torch.no_grad()
def test_aspp_is_torchvisions() -> None:
    theirs = shaken(segmentation.deeplabv3.ASPP(64, [12, 24, 36], 32))
    ours = ASPP(64, 32, (12, 24, 36)).eval()
    carry_over(theirs, ours, [("", "")])
    features = images(20, 30, 64)
    assert_same(ours(features), theirs(features))


@torch.no_grad()
def test_deeplabv3s_encoder_aspp_and_auxiliary_head_are_torchvisions() -> None:
    theirs = shaken(segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    ours = nets.build("deeplabv3plus", 21, backbone="resnet50", output_stride=8, aux=True).eval()
    left = ours.load_state_dict(renamed(theirs, "deeplabv3plus"), strict=False)
    assert left.unexpected_keys == [] and {name.split(".")[0] for name in left.missing_keys} == {
        *("reduce", "refine", "classifier")
    }
    features = ours.encoder(images())
    expected = theirs.backbone(images())
    assert_same(features[-1], expected["out"])
    assert_same(ours.aspp(features[-1]), theirs.classifier[0](expected["out"]))
    assert_same(ours.aux_head(features[-2]), theirs.aux_classifier(expected["aux"]))


@torch.no_grad()
def test_separable_aspp_is_smps() -> None:
    decoder = pytest.importorskip("segmentation_models_pytorch.decoders.deeplabv3.decoder")
    theirs = shaken(decoder.ASPP(64, 32, (6, 12, 18), separable=True, dropout=0.5))
    ours = ASPP(64, 32, (6, 12, 18), separable=True, norm_between=False).eval()
    carry_over(theirs, ours, [("", "")])
    features = images(20, 30, 64)
    assert_same(ours(features), theirs(features))


@torch.no_grad()
def test_unet_is_smps() -> None:
    theirs = shaken(smp().Unet("resnet34", encoder_weights=None, classes=21))
    ours = nets.build("unet", 21, backbone="resnet34").eval()
    ours.load_state_dict(renamed(theirs, "unet"))
    assert_same(ours(images()), theirs(images()))


@pytest.mark.parametrize("norms", [True, False])
@torch.no_grad()
def test_upernet_is_smps_with_its_layer_norms_or_without(norms: bool) -> None:
    theirs = shaken(smp().UPerNet("resnet34", encoder_weights=None, classes=21, decoder_channels=64))
    if not norms:
        theirs.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in theirs.decoder.feature_norms)
    weights = renamed(theirs, "upernet")
    theirs.segmentation_head[1] = nn.Identity()  # upsampling that aligns corners
    ours = nets.build("upernet", 21, backbone="resnet34", channels=64, norms=norms).eval()
    ours.load_state_dict(weights)
    assert_same(ours.logits(images())[0], theirs(images()))


@torch.no_grad()
def test_pyramid_pooling_is_smps() -> None:
    decoder = pytest.importorskip("segmentation_models_pytorch.decoders.upernet.decoder")
    theirs = shaken(decoder.PSPModule(64, 16))
    theirs.out_conv = nn.Identity()
    ours = PyramidPooling(64, 16).eval()
    carry_over(theirs.blocks, ours.branches, [("", "")])
    features = images(13, 17, 64)
    assert_same(ours(features), theirs(features))
