"""Pretrained weights without a network: from a file, adapted to the channels, or one line that says how."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import nets
import nets.encoders.pretrained
import nets.encoders.vgg


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's state dict of a resnet18, as somebody would save it where there is a connection."""
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), file)
    return file


def test_weights_from_a_file(weights: Path) -> None:
    net = nets.build("unet", 3, backbone="resnet18", backbone_weights=weights)
    saved = torch.load(weights, weights_only=True)
    loaded = net.encoder.model.state_dict()
    assert set(loaded) == {key for key in saved if not key.startswith("fc.")}
    assert all(torch.equal(loaded[key], saved[key]) for key in loaded)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_first_convolution_adapts_to_the_channels(weights: Path, channels: int) -> None:
    net = nets.build("unet", 3, backbone="resnet18", backbone_weights=weights, in_channels=channels)
    rgb = torch.load(weights, weights_only=True)["conv1.weight"]
    adapted = net.encoder.model.conv1.weight
    assert adapted.shape[1] == channels
    # a gray image gives the same response in every number of channels
    torch.testing.assert_close(adapted.sum(1), rgb.sum(1), rtol=0.35, atol=0.35)
    if channels == 1:
        torch.testing.assert_close(adapted.sum(1), rgb.sum(1))
    mean, std = nets.pretrained_statistics(net) or ([], [])
    assert len(mean) == len(std) == channels
    with torch.no_grad():
        assert net.eval()(torch.randn(1, channels, 32, 32)).shape == (1, 3, 32, 32)


def test_statistics_only_with_pretrained_weights(weights: Path) -> None:
    assert nets.pretrained_statistics(nets.build("unet", 3, backbone="resnet18")) is None
    assert nets.pretrained_statistics(nets.build("enet", 3)) is None
    pretrained = nets.build("unet", 3, backbone="resnet18", backbone_weights=weights)
    mean, std = nets.pretrained_statistics(pretrained) or ([], [])
    assert mean == pytest.approx([0.485, 0.456, 0.406])
    assert std == pytest.approx([0.229, 0.224, 0.225])


def test_weights_of_another_model_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(nets.NetError, match=r"resnet18\.pth.*do not fit resnet50"):
        nets.build("unet", 3, backbone="resnet50", backbone_weights=weights)
    (tmp_path / "junk.pth").write_bytes(b"not weights")
    with pytest.raises(nets.NetError, match=r"junk\.pth.*do not fit resnet18"):
        nets.build("unet", 3, backbone="resnet18", backbone_weights=tmp_path / "junk.pth")


def test_no_connection_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setattr(nets.encoders.pretrained.urllib.request, "getproxies", dict)
    monkeypatch.setattr(nets.encoders.pretrained, "_cached_file", lambda hub_id: None)
    with pytest.raises(nets.NetError) as caught:
        nets.build("unet", 3, backbone="resnet18", pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    assert "'resnet18'" in message and "backbone_weights" in message and "cannot be reached" in message


def test_weights_in_the_hubs_cache_need_no_connection(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets.encoders.pretrained, "_cached_file", lambda hub_id: str(tmp_path / "cached.pth"))
    more = torch.load(weights, weights_only=True) | {"more.than.the.model": torch.zeros(1)}
    torch.save(more, tmp_path / "cached.pth")
    net = nets.build("unet", 3, backbone="resnet18", pretrained=True)
    assert torch.equal(net.encoder.model.conv1.weight, torch.load(weights, weights_only=True)["conv1.weight"])


def test_vgg_weights_land_in_segnet(monkeypatch: pytest.MonkeyPatch) -> None:
    source = timm.create_model(
        "vgg16_bn", features_only=True
    )  # without the 120 M parameters that SegNet has no use for
    source.loaded = "a file"
    monkeypatch.setattr(nets.encoders.vgg, "create_timm", lambda *args, **kwargs: source)
    net = nets.build("segnet", 3, pretrained=True)
    theirs = [m.weight for m in source.modules() if isinstance(m, torch.nn.Conv2d)]
    ours = [m.weight for m in net.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(ours) == 13
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert nets.pretrained_statistics(net) is not None
    assert nets.pretrained_source(net) == "a file"
