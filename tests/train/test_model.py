"""From recipe to net: options, frozen parts and the normalization reach it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from ingest.errors import UserError
from train import model
from train.config import NetConfig

FACTS = {
    "name": "toy",
    "classes": ["a", "b", "c"],
    "palette": [],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "channels": 3,
    "ignore": 255,
}


def test_without_pretraining_the_dataset_normalizes() -> None:
    net = model.build(NetConfig(name="enet"), FACTS)
    assert net.mean.tolist() == pytest.approx(FACTS["mean"]) and net.std.tolist() == pytest.approx(FACTS["std"])


def test_with_pretraining_the_encoder_s_statistics_normalize(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.pth"
    encoder = timm.create_model("resnet18")
    torch.save(encoder.state_dict(), file)
    net = model.build(NetConfig(name="unet", backbone="resnet18", backbone_weights=str(file)), FACTS)
    assert net.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    weights = dict(net.named_parameters())
    assert any(torch.equal(p, encoder.conv1.weight) for p in weights.values() if p.shape == encoder.conv1.weight.shape)


def test_net_options_and_frozen_parts() -> None:
    fine = model.build(NetConfig(name="fcn", backbone="resnet18", options={"skips": 0}), FACTS)
    coarse = model.build(NetConfig(name="fcn", backbone="resnet18", options={"skips": 2}), FACTS)
    assert sum(p.numel() for p in fine.parameters()) < sum(p.numel() for p in coarse.parameters())
    frozen = model.build(NetConfig(name="unet", backbone="resnet18", freeze_backbone=True), FACTS)
    assert any(not p.requires_grad for p in frozen.parameters()) and any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (NetConfig(name="fcn", options={"skps": 1}), "did you mean 'skips'"),
        (NetConfig(name="enet", freeze_backbone=True), "no separate encoder to freeze"),
        (NetConfig(name="unet", backbone="resnet18", backbone_weights="/nowhere.pth"), "/nowhere.pth"),
    ],
)
def test_what_a_net_does_not_have_is_named(net: NetConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.build(net, FACTS)


def test_channels_follow_the_dataset() -> None:
    facts = FACTS | {"channels": 5, "mean": [0.5] * 5, "std": [0.2] * 5}
    net = model.build(NetConfig(name="enet"), facts).eval()
    assert net(torch.zeros(1, 5, 32, 32, dtype=torch.uint8)).shape == (1, 3, 32, 32)
