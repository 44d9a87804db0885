"""Plain ViTs as encoders: which maps, at which strides, for images of any size, with weights from a file, frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import nets
from nets.encoders import Encoder, Needs
from nets.encoders.vit import PlainViT
from nets.net import find_encoder

TINY = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "pad", "cells"),
    [
        (TINY, 32, [16, 8, 4, 2]),
        ("vit_small_patch14_reg4_dinov2", 28, [16, 8, 4, 2]),  # 3.5, 7, 14 and 28 pixels
        ("vit_small_patch8_224", 32, [16, 8, 4, 2]),
        ("vit_base_patch32_224", 32, [16, 8, 4, 2]),
        ("vit_small_patch16_dinov3", 32, [16, 8, 4, 2]),
        ("vit_base_patch16_clip_224", 32, [16, 8, 4, 2]),
        ("samvit_base_patch16", 32, [16, 8, 4, 2]),
    ],
)
def test_a_pyramid_of_four_strides(name: str, pad: int, cells: list[int]) -> None:
    with torch.device("meta"):
        encoder = Encoder(name).eval()
        assert encoder.pad_stride == pad and encoder.strides == [4, 8, 16, 32]
        maps = encoder(torch.zeros(1, 3, 2 * pad, 3 * pad))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, side, side * 3 // 2) for c, side in zip(encoder.channels, cells, strict=True)
    ]


def test_positions_of_dinov3_are_timms_for_any_size() -> None:
    name = "vit_small_patch16_dinov3"
    theirs, ours = timm.create_model(name).eval().rope, PlainViT(name, {}, False).eval().vit.rope
    assert type(ours) is not type(theirs)
    for size in ((4, 6), (14, 14), (9, 5), (1, 3)):
        assert torch.equal(ours.get_embed(shape=size), theirs.get_embed(shape=size))


def test_the_maps_are_those_of_timms_features() -> None:
    torch.manual_seed(0)
    encoder = Encoder(TINY, needs=Needs(flat=True)).eval()
    assert encoder.strides == [16] * 4 and encoder.pad_stride == 16
    theirs = timm.create_model(TINY, features_only=True, out_indices=[2, 5, 8, 11], dynamic_img_size=True).eval()
    theirs.model.load_state_dict(encoder.model.vit.state_dict(), strict=False)
    norm = encoder.model.vit.norm
    images = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        for ours, expected in zip(encoder(images), theirs(images), strict=True):
            torch.testing.assert_close(ours, norm(expected.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_what_is_frozen_is_the_vit_and_not_its_pyramid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "vit.pth"
    source = timm.create_model(TINY)
    torch.save(source.state_dict(), file)
    net = nets.build("upernet", 3, backbone=TINY, backbone_weights=str(file), channels=16)
    weight = source.state_dict()["blocks.3.attn.qkv.weight"]
    assert torch.equal(net.state_dict()["encoder.model.vit.blocks.3.attn.qkv.weight"], weight)
    assert "tensors of" in str(nets.pretrained_source(net))
    config = timm.get_pretrained_cfg(TINY)
    assert nets.pretrained_statistics(net) == (list(config.mean), list(config.std))
    net = nets.Segmenter(net, [0.5] * 3, [0.5] * 3, freeze_backbone=True).train()
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert any(".pyramid." in name for name in trained) and not any(".vit." in name for name in trained)
    assert not find_encoder(net).training and net.net.encoder.pyramid.training  # type: ignore[union-attr]


def test_levels_that_a_net_does_not_read_are_not_trained() -> None:
    net = nets.build("fcn", 3, backbone=TINY, skips=1)  # reads strides 32 and 16
    idle = {name.split(".")[3] for name, p in net.named_parameters() if not p.requires_grad}
    assert idle == {"0", "1"}


def test_one_band_and_a_drop_path_rate() -> None:
    net = nets.build("upernet", 3, backbone=TINY, in_channels=1, channels=16, drop_path=0.2)
    assert net.eval()(torch.zeros(1, 1, 33, 50)).shape == (1, 3, 33, 50)
    assert net.get_submodule("encoder.model.vit.blocks.11.drop_path1").drop_prob == pytest.approx(0.2)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["mixer_b16_224", "beit_base_patch16_224"])
def test_what_takes_one_size_only_is_refused(name: str) -> None:
    with pytest.raises(nets.NetError, match="choose another"):
        nets.build("linear", 4, backbone=name)
