"""Exported files take plain images of any size, say their classes, and agree with the net; or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from ingest.errors import UserError
from train import config, model
from train.checkpoints import checkpoint
from train.export import formats as export
from train.export.check import check
from train.export.command import command

FACTS = {
    "name": "toy",
    "classes": ["sky", "road"],
    "palette": [[1, 2, 3], [4, 5, 6]],
    "mean": [0.4, 0.5, 0.6, 0.5],
    "std": [0.2, 0.2, 0.2, 0.2],
    "channels": 4,
    "ignore": 255,
}


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as a run leaves it: a U-Net over ResNet-18 of four channels and two classes."""
    torch.manual_seed(0)
    recipe = config.parse({"net": {"name": "unet", "backbone": "resnet18"}, "train": {"steps": 1, "ema": 0.9}})
    net = model.build(recipe.net, FACTS)
    with torch.no_grad():
        for _ in range(3):  # running statistics of the very images that are compared
            net.train()(export.photos(4, (64, 96), batch=2))
    path = tmp_path_factory.mktemp("run") / "best.pt"
    checkpoint.save(
        path, {"model": net.state_dict(), "config": config.to_dict(recipe), "dataset": FACTS, "step": 1, "versions": {}}
    )
    return path


def invoke(best: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(command, ["--checkpoint", str(best), "--out", str(out), "--size", "64x96", *more])


def test_torchscript_keeps_its_size_and_its_facts(best: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.ts"
    result = invoke(best, out, "--check")
    assert result.exit_code == 0, result.output
    assert "unet, 2 classes of toy, images uint8 [N, 4, H, W] of 64x96" in result.output
    assert "agrees with the net in 1 sizes" in result.output
    extra = {"facts.json": ""}
    with pytest.warns(FutureWarning):
        torch.jit.load(str(out), _extra_files=extra)
    assert json.loads(extra["facts.json"])["classes"] == ["sky", "road"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"], "nothing half-written stays"


@pytest.mark.slow
def test_pt2_takes_any_size(best: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    result = invoke(best, out, "--check")
    assert result.exit_code == 0, result.output
    assert "of any size" in result.output and "agrees with the net in 3 sizes" in result.output
    extra = {"facts.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    assert json.loads(extra["facts.json"])["palette"] == FACTS["palette"]
    images = export.photos(4, (45, 131), batch=5)
    with torch.no_grad():
        assert program(images).shape == (5, 2, 45, 131)


@pytest.mark.slow
def test_onnx_takes_any_size_and_names_its_classes(best: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "model.onnx"
    result = invoke(best, out, "--check")
    assert result.exit_code == 0, result.output
    assert "agrees with the net in 3 sizes" in result.output
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["sky", "road"] and facts["name"] == "toy"
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 4, "height", "width"])
    (logits,) = session.run(None, {"images": export.photos(4, (45, 131)).numpy()})
    assert logits.shape == (1, 2, 45, 131)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_differs_is_refused(best: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.ts"
    net = model.from_checkpoint(checkpoint.load(best))
    export.export(net, out, FACTS, (64, 96))
    assert "agrees" in check(net, out, 4, (64, 96))
    with torch.no_grad():
        next(net.net.parameters()).mul_(1.5)
    with pytest.raises(UserError, match="does not agree with the net"):
        check(net, out, 4, (64, 96))


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("model.onxx", [], "the ending says the format; did you mean '.onnx'"),
        ("no/model.ts", [], "does not exist"),
        ("model.ts", ["--size", "64"], "expected HEIGHTxWIDTH"),
        ("model.ts", ["--size", "8x8"], "32 or more"),
        ("model.ts", ["--checkpoint", "none.pt"], "checkpoint none.pt does not exist"),
    ],
)
def test_mistakes(best: Path, out: str, more: list[str], message: str, tmp_path: Path) -> None:
    result = invoke(best, tmp_path / out, *more)
    assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert list(tmp_path.iterdir()) == []
