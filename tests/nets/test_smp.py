"""`smp:NAME`: segmentation_models.pytorch's nets by name, with our keys for their encoder; what is said without it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner

import nets
from nets import smp
from nets.__main__ import main

pytestmark = pytest.mark.peers
library = pytest.importorskip("segmentation_models_pytorch")


@torch.no_grad()
def test_it_is_the_librarys_net_with_our_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "r18.pth")
    ours = nets.build("smp:fpn", 5, backbone="resnet18", backbone_weights=str(tmp_path / "r18.pth")).eval()
    assert torch.equal(
        ours.state_dict()["model.encoder.model.layer2.0.conv1.weight"], source.state_dict()["layer2.0.conv1.weight"]
    )
    assert f"tensors of {tmp_path / 'r18.pth'}" in str(nets.pretrained_source(ours))
    config = timm.get_pretrained_cfg("resnet18")
    assert nets.pretrained_statistics(ours) == (list(config.mean), list(config.std))
    theirs = library.FPN("tu-resnet18", encoder_weights=None, classes=5).eval()
    theirs.load_state_dict(ours.model.state_dict())  # type: ignore[union-attr]
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(images), theirs(images))


def test_freezing_holds_the_encoder() -> None:
    net = nets.Segmenter(nets.build("smp:linknet", 3, backbone="resnet18"), [0.5] * 3, [0.5] * 3, freeze_backbone=True)
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert trained and not any(".encoder." in name for name in trained)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("smp:unetplus", {}, ["no net 'unetplus'", "did you mean 'unetplusplus'"]),
        ("smp:fpn", {"decoder_channel": 3}, ["smp:fpn has no option 'decoder_channel'", "decoder_pyramid_channels"]),
        ("smp:fpn", {"decoder_merge_policy": "sum"}, ["cannot make FPN over 'resnet34'", "got sum"]),
        ("smp:fpn", {"decoder_pyramid_channels": "many"}, ["expected a whole number, such as 256"]),
        ("smp:dpt", {"backbone": "resnet18"}, ["cannot make DPT over 'resnet18'"]),
        ("smp:unet", {"backbone": "resnet181"}, ["cannot make Unet over 'resnet181'"]),
        ("smp:unet", {"backbone": "resnet18", "backbone_weights": "/nowhere.pth"}, ["/nowhere.pth", "no file"]),
        ("smp:unet", {"aux": True}, ["smp:unet has no option 'aux'"]),
    ],
)
def test_mistakes_are_one_line(name: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(nets.NetError) as caught:
        nets.build(name, 3, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == smp.PACKAGE else found(name, *a))
    assert nets.list_peers() == []
    with pytest.raises(nets.NetError, match=r"smp:fpn.*pip install 'segrail\[smp\]'"):
        nets.build("smp:fpn", 3)


def test_the_list_and_the_details_show_them() -> None:
    shown = CliRunner().invoke(main, ["--size", "128"], catch_exceptions=False).output
    assert set(nets.list_peers()) <= {line.split()[0] for line in shown.splitlines() if line}
    details = CliRunner().invoke(main, ["smp:fpn", "--size", "64", "--backbone", "resnet18"], catch_exceptions=False)
    for words in ("segmentation_models.pytorch's FPN", "decoder_merge_policy='add'", "encoder", "all"):
        assert words in details.output
