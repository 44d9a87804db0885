"""Normalization as the first layer, and freezing that outlives train()."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nets

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def photos(height: int = 33, width: int = 47) -> torch.Tensor:
    pixels = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return pixels.permute(0, 3, 1, 2)


def test_normalizes_as_written_out() -> None:
    segmenter = nets.Segmenter(nn.Identity(), MEAN, STD)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    expected = (photos().float() / 255 - mean) / std
    torch.testing.assert_close(segmenter(photos()), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(segmenter(photos().float()), expected, rtol=1e-5, atol=1e-6)


def test_keeps_channels_last() -> None:
    out = nets.Segmenter(nn.Identity(), MEAN, STD)(photos())
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_computes_in_the_compute_dtype() -> None:
    segmenter = nets.Segmenter(nn.Identity(), MEAN, STD)
    with torch.autocast("cpu", torch.bfloat16):
        assert segmenter(photos()).dtype == torch.bfloat16
    assert segmenter.to(torch.float16)(photos()).dtype == torch.float16


def test_bfloat16_is_near_float32() -> None:
    segmenter = nets.Segmenter(nn.Identity(), MEAN, STD)
    exact = segmenter(photos())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = segmenter(photos()).float()
    assert (rounded - exact).abs().max() < 0.03  # about one gray level


def test_statistics_travel_in_the_state_dict() -> None:
    state = nets.Segmenter(nets.build("enet", 3), MEAN, STD).state_dict()
    other = nets.Segmenter(nets.build("enet", 3), [0.5] * 3, [0.5] * 3)
    other.load_state_dict(state)
    torch.testing.assert_close(other.mean, torch.tensor(MEAN))


@pytest.mark.parametrize(
    ("mean", "std", "words"), [([0.5], [0.5, 0.5], "1 channels, std 2"), ([120.0] * 3, [60.0] * 3, "divide 8-bit")]
)
def test_wrong_statistics_are_refused(mean: list[float], std: list[float], words: str) -> None:
    with pytest.raises(nets.NetError, match=words):
        nets.Segmenter(nn.Identity(), mean, std)


def test_frozen_backbone_outlives_train() -> None:
    net = nets.build("unet", 3, backbone="resnet18")
    segmenter = nets.Segmenter(net, MEAN, STD, freeze_backbone=True).train()
    groups = nets.parameter_groups(segmenter)
    assert groups["backbone"] == []
    before = {k: v.clone() for k, v in net.encoder.state_dict().items()}
    segmenter(photos()).out.mean().backward()
    assert all(torch.equal(before[k], v) for k, v in net.encoder.state_dict().items())
    assert all(p.grad is None for p in net.encoder.parameters())
    assert all(p.grad is not None for p in groups["head"])
    assert net.up.training


def test_frozen_bn_keeps_statistics_and_affine() -> None:
    segmenter = nets.Segmenter(nets.build("enet", 3), MEAN, STD, freeze_bn="all").train()
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms]
    segmenter(photos()).out.mean().backward()
    assert all(torch.equal(a, m.running_mean) for a, m in zip(before, norms, strict=True))
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    assert segmenter.net.stage1.training


def test_freeze_bn_is_for_the_encoder_and_leaves_the_head_to_learn() -> None:
    net = nets.build("pspnet", 3, backbone="resnet18")
    segmenter = nets.Segmenter(net, MEAN, STD, freeze_bn=True).train()
    norms = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    before = {name: m.running_mean.clone() for name, m in norms.items()}
    segmenter(photos(64, 64)).out.mean().backward()
    kept = {name for name, m in norms.items() if torch.equal(before[name], m.running_mean)}
    assert kept == {name for name in norms if name.startswith("encoder.")} != set(norms)
    assert all(m.weight.requires_grad != (name in kept) for name, m in norms.items())
    assert net.encoder.model.conv1.weight.requires_grad  # only norms are frozen


def test_freezing_a_net_without_encoder_is_refused() -> None:
    with pytest.raises(nets.NetError, match="no separate encoder"):
        nets.Segmenter(nets.build("enet", 3), MEAN, STD, freeze_backbone=True)
    with pytest.raises(nets.NetError, match=r"no separate encoder.*freeze_bn: all"):
        nets.Segmenter(nets.build("enet", 3), MEAN, STD, freeze_bn=True)
