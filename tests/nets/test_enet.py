"""ENet's two forms: the paper's text, and what the authors' released code does differently."""

from __future__ import annotations

import pytest
from torch import nn

import nets


def inner_channels(net: nets.Net) -> list[int]:
    return [part.branch[0].out_channels for part in (net.down1, net.down2, net.up4, net.up5)]


def decoder_of(net: nets.Net) -> list[nn.Module]:
    return [m for part in (net.up4, net.stage4, net.up5, net.stage5) for m in part.modules()]


def test_the_default_is_the_form_that_older_checkpoints_hold() -> None:
    net = nets.build("enet", 21)
    assert inner_channels(net) == [4, 16, 32, 16]
    assert net.classifier.kernel_size == (3, 3)
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_authors_form() -> None:
    """As e-lab/ENet-training's encoder.lua and decoder.lua build it."""
    net = nets.build("enet", 21, form="authors")
    assert inner_channels(net) == [16, 32, 16, 4]
    assert net.classifier.kernel_size == net.classifier.stride == (2, 2)
    assert not any(isinstance(m, nn.PReLU) for m in decoder_of(net))
    assert all(m.p == 0 for m in decoder_of(net) if isinstance(m, nn.Dropout2d))
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    dropout = [m.p for m in net.modules() if isinstance(m, nn.Dropout2d) and m.p]
    assert dropout == [0.01] * 5 + [0.1] * 17


def test_parameters_of_the_authors_form() -> None:
    """Counted from their layers: a bottleneck is projection, 3x3 or asymmetric convolution, expansion."""

    def bottleneck(i: int, o: int, *, kernel: int = 1, asymmetric: bool = False, prelu: bool = True) -> int:
        inner = o // 4
        middle = 2 * 5 * inner * inner if asymmetric else 9 * inner * inner
        slopes = (2 * inner + o) if prelu else 0
        return i * inner * kernel**2 + middle + inner + inner * o + 2 * (inner + inner + o) + slopes

    initial = 3 * 13 * 9 + 13 + 3 * 16
    encoder = bottleneck(16, 64, kernel=2) + 4 * bottleneck(64, 64) + bottleneck(64, 128, kernel=2)
    encoder += 2 * (6 * bottleneck(128, 128) + 2 * bottleneck(128, 128, asymmetric=True))
    decoder = sum(bottleneck(i, o, prelu=False) + i * o + 2 * o for i, o in ((128, 64), (64, 16)))
    decoder += 2 * bottleneck(64, 64, prelu=False) + bottleneck(16, 16, prelu=False)
    classifier = 16 * 21 * 4 + 21
    net = nets.build("enet", 21, form="authors")
    assert sum(p.numel() for p in net.parameters()) == initial + encoder + decoder + classifier


def test_first_training_stage_is_the_same_encoder() -> None:
    whole = nets.build("enet", 5, form="authors").state_dict()
    first = nets.build("enet", 5, form="authors", decoder=False).state_dict()
    shared = [key for key in first if not key.startswith("classifier")]
    assert shared and all(whole[key].shape == first[key].shape for key in shared)
    assert first["classifier.weight"].shape == (5, 128, 1, 1)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(nets.NetError, match="enet has no form 'author'; did you mean 'authors'"):
        nets.build("enet", 5, form="author")
