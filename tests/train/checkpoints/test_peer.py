"""`train.init_from` with files that no run wrote: other libraries' nets, and state dicts saved plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import yaml
from click.testing import CliRunner

import nets
from ingest.errors import UserError
from tests.train.checkpoints.test_start import CLASSES, facts
from train import model
from train.__main__ import command
from train.checkpoints import peer, start
from train.config import NetConfig


@pytest.mark.peers
@pytest.mark.parametrize("form", ["pth", "wrapped", "safetensors"])
def test_a_unet_of_smp_is_taken_whole(form: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=3).eval()
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        safetensors.torch.save_file(theirs.state_dict(), file)
    else:
        tensors = {f"module.{name}": value for name, value in theirs.state_dict().items()}
        torch.save({"state_dict": tensors} if form == "wrapped" else theirs.state_dict(), file)
    net, line = start.begin(NetConfig("unet", "resnet18"), facts(CLASSES), str(file))
    count = len(net.state_dict())
    assert f"started from {file} (segmentation_models.pytorch's U-Net): {count} of {count} tensors; it names" in line
    assert "anew" not in line and "not taken" not in line
    assert net.mean.tolist() == pytest.approx(timm.get_pretrained_cfg("resnet18").mean)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(net.eval().net(images), theirs(images), rtol=1e-4, atol=1e-4)
    # another number of classes: the classifier starts anew, and that is said
    _, line = start.begin(NetConfig("unet", "resnet18"), facts([*CLASSES, "tree"]), str(file))
    assert f"{count - 2} of {count} tensors, anew: net.classifier.weight, net.classifier.bias; not taken" in line
    # of another net the encoder alone
    other, line = start.begin(NetConfig("pspnet", "resnet18"), facts(CLASSES), str(file))
    assert torch.equal(
        other.state_dict()["net.encoder.model.conv1.weight"], theirs.state_dict()["encoder.conv1.weight"]
    )
    assert "net.classifier.weight" not in line.split("not taken")[0] or "anew" in line


@pytest.mark.peers
def test_a_net_of_smp_fills_the_net_of_its_name(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    theirs = smp.Linknet("resnet18", encoder_weights=None, classes=3)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    net, line = start.begin(NetConfig("smp:linknet", "resnet18"), facts(CLASSES), str(tmp_path / "w.pth"))
    assert f"{len(net.state_dict())} of {len(net.state_dict())} tensors" in line


@pytest.mark.parametrize("whole", [True, False])
def test_our_own_net_saved_plainly(whole: bool, tmp_path: Path) -> None:
    source = model.build(NetConfig("enet"), facts(CLASSES))
    torch.save((source if whole else source.net).state_dict(), tmp_path / "w.pth")
    net, line = start.begin(NetConfig("enet"), facts(CLASSES), str(tmp_path / "w.pth"))
    assert "(a plain state dict)" in line and ("anew: mean, std" in line) == (not whole)
    for name, value in source.net.state_dict().items():
        assert torch.equal(net.net.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        ("resnet34", NetConfig("unet", "resnet18"), r"its encoder is another one \(net\.encoder"),
        ("timm", NetConfig("unet", "resnet18"), r"none of its weights fit unet; .*net\.backbone_weights"),
        ("none", NetConfig("enet"), "holds no tensors by name"),
    ],
)
def test_what_does_not_fit_is_one_line(tensors: str, config: NetConfig, words: str, tmp_path: Path) -> None:
    made: dict[str, Any] = {"epoch": 3}
    if tensors == "timm":
        made = timm.create_model("resnet18").state_dict()
    if tensors == "resnet34":
        made = nets.build("unet", 3, backbone="resnet34").state_dict()
    torch.save(made, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words) as error:
        start.begin(config, facts(CLASSES), str(tmp_path / "w.pth"))
    assert "train.init_from = " in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_plain_file_is_read_as_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    torch.save({"format": "another"}, tmp_path / "other.pt")
    assert (
        peer.is_ours(tmp_path / "junk.pt") and peer.is_ours(tmp_path / "other.pt") and peer.is_ours(tmp_path / "no.pt")
    )


def test_from_the_command_line(raw_recipe: dict[str, Any], tmp_path: Path) -> None:
    raw_recipe["data"] |= {"val": ""}
    raw_recipe["train"] |= {"steps": 1, "init_from": str(tmp_path / "w.pth")}
    torch.save(nets.build("enet", 5).state_dict(), tmp_path / "w.pth")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw_recipe))
    done = CliRunner().invoke(command, ["--cfg", str(tmp_path / "r.yaml")], catch_exceptions=False)
    assert "started from " in done.output and "(a plain state dict)" in done.output
