"""Exported files take plain images of any size, say their classes, and agree with the net; or are refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor, nn

from ingest.errors import UserError
from tests.conftest import ROOT
from tests.shard_folder import smooth_scene
from train import config, model
from train.checkpoints import checkpoint
from train.export import quantize
from train.export.check import check
from train.export.command import command
from train.export.formats import Shipped, export
from train.export.samples import noise

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
            net.train()(noise(4, (64, 96), batch=2))
    path = tmp_path_factory.mktemp("run") / "best.pt"
    checkpoint.save(
        path, {"model": net.state_dict(), "config": config.to_dict(recipe), "dataset": FACTS, "step": 1, "versions": {}}
    )
    return path


def invoke(best: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(command, ["--checkpoint", str(best), "--out", str(out), "--size", "64x96", *more])


class Small(nn.Module):
    """A net of one convolution, exported in a second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.to(self.layer.weight.dtype) / 255)


@pytest.mark.parametrize(("argmax", "half"), [(False, False), (True, False), (False, True)])
def test_logits_or_classes_of_any_size_with_facts(tmp_path: Path, argmax: bool, half: bool) -> None:
    out = tmp_path / "model.pt2"
    export(Shipped(Small(), argmax, half), out, {"classes": ["a", "b", "c", "d"]}, noise(3, (32, 40)))
    extra = {"facts.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    assert json.loads(extra["facts.json"]) == {"classes": ["a", "b", "c", "d"]}
    images = noise(3, (45, 131), batch=5)
    found = program(images)
    assert found.dtype == (torch.uint8 if argmax else torch.float32)
    assert found.shape == ((5, 45, 131) if argmax else (5, 4, 45, 131))
    told = check(Small().eval(), out, [images, noise(3, (64, 32))], argmax, half)
    assert "agrees with the net on 2 batches of images" in told
    assert f"of {5 * 45 * 131 + 64 * 32:,} pixels get another class" in told
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"], "nothing half-written stays"


@pytest.mark.parametrize("argmax", [False, True])
def test_a_file_that_differs_is_refused(tmp_path: Path, argmax: bool) -> None:
    out, net = tmp_path / "model.pt2", Small().eval()
    export(Shipped(net, argmax), out, {}, noise(3, (32, 40)))
    images = [noise(3, (64, 96))]
    assert "agrees" in check(net, out, images, argmax)
    with torch.no_grad():
        net.layer.weight.mul_(-1.5)
    with pytest.raises(UserError, match=r"does not agree with the net: .* get another class: do not use it"):
        check(net, out, images, argmax)


@pytest.mark.slow
def test_pt2_from_the_command(best: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    result = invoke(best, out)
    assert result.exit_code == 0, result.output
    assert "unet, 2 classes of toy, images uint8 [N, 4, H, W] of any size" in result.output
    assert "agrees with the net on 2 batches of images" in result.output and "(noise:" in result.output
    extra = {"facts.json": ""}
    torch.export.load(out, extra_files=extra)
    assert json.loads(extra["facts.json"])["palette"] == FACTS["palette"]


@pytest.mark.slow
def test_onnx_takes_any_size_and_says_what_it_is(best: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "model.onnx"
    result = invoke(best, out)
    assert result.exit_code == 0, result.output
    assert "agrees with the net on 2 batches" in result.output
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["sky", "road"] and facts["name"] == "toy"
    assert json.loads(facts["mean"]) == FACTS["mean"] and "resnet18" in facts["recipe"] and facts["step"] == "1"
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 4, "height", "width"])
    (logits,) = session.run(None, {"images": noise(4, (45, 131)).numpy()})
    assert logits.shape == (1, 2, 45, 131)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def example(number: int) -> str:
    """The code that docs/evaluation.md shows: 0 labels a photo, 1 serves."""
    codes = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
    assert len(codes) == 2
    return codes[number]


@pytest.mark.slow
def test_the_documented_example_labels_a_photo_and_int8_keeps_the_score(trained: Path, tmp_path: Path) -> None:
    """Without segrail: 15 lines of onnxruntime. Then 8 bits, on the dataset's own images."""
    pytest.importorskip("onnxruntime")
    out, photo, mask = tmp_path / "m.onnx", tmp_path / "p.png", tmp_path / "mask.png"
    result = CliRunner().invoke(command, ["--checkpoint", str(trained), "--out", str(out)])
    assert result.exit_code == 0 and "on 4 batches of images" in result.output and "(val images)" in result.output
    image = smooth_scene(40, 56, seed=0)[0]
    Image.fromarray(image).save(photo)
    (tmp_path / "label.py").write_text(example(0))
    done = subprocess.run(
        [sys.executable, "label.py", out, photo, mask], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        net = model.from_checkpoint(checkpoint.load_net(trained))
        expected = net(torch.from_numpy(image)[None].permute(0, 3, 1, 2)).argmax(1)[0].numpy()
    assert (np.asarray(Image.open(mask)) == expected).mean() > 0.999
    assert len(example(0).strip().splitlines()) <= 18

    small = tmp_path / "int8.onnx"
    arguments = ["--checkpoint", str(trained), "--out", str(small), "--int8", "--tolerance"]
    result = CliRunner().invoke(command, [*arguments, "100"])
    assert result.exit_code == 0 and re.search(r"mIoU [\d.]+% before, [\d.]+% after, on 5 images of val", result.output)
    assert small.stat().st_size < out.stat().st_size
    small.unlink()
    scores = iter((0.5, 0.4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.export.shipping.miou", lambda *_: next(scores))
        result = CliRunner().invoke(command, [*arguments, "9.9"])
    assert isinstance(result.exception, UserError) and "costs 10.00 points" in str(result.exception)
    assert not small.exists()
    assert quantize.miou(out, [(torch.from_numpy(image)[None].permute(0, 3, 1, 2), torch.zeros(1, 40, 56).byte())], 5)


@pytest.mark.slow
@pytest.mark.peers
def test_the_documented_service_answers_with_the_mask(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("litserve")
    pytest.importorskip("python_multipart")
    arguments = ["--checkpoint", str(trained), "--out", str(tmp_path / "m.onnx"), "--argmax", "--no-check"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    image = smooth_scene(40, 56, seed=0)[0]
    (tmp_path / "serve.py").write_text(example(1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = open(tmp_path / "log", "w")  # noqa: SIM115  the server's, to the end
    server = subprocess.Popen(
        [sys.executable, "serve.py", "m.onnx", str(port)], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"{url}/health").status == 200:
                    break
            time.sleep(0.5)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        body = (
            b'--x\r\nContent-Disposition: form-data; name="request"; filename="a.png"\r\n\r\n'
            + buffer.getvalue()
            + b"\r\n--x--"
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", body, kind)) as answer:
            found = np.asarray(Image.open(io.BytesIO(answer.read())))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()
    with torch.no_grad():
        net = model.from_checkpoint(checkpoint.load_net(trained))
        expected = net(torch.from_numpy(image)[None].permute(0, 3, 1, 2)).argmax(1)[0].numpy()
    assert (found == expected).mean() > 0.999


def test_labels_read_by_webdataset_are_class_ids(toy: Path) -> None:
    """As docs/evaluation.md says: the bytes, not `.decode("pil")`."""
    sample = next(iter(webdataset.WebDataset(str(toy / "val-000000.tar"), shardshuffle=False)))
    label = Image.open(io.BytesIO(sample["seg.png"]))
    assert label.mode == "L" and (np.asarray(label) == smooth_scene(40, 56, seed=100)[1]).all()
    decoded = next(iter(webdataset.WebDataset(str(toy / "val-000000.tar"), shardshuffle=False).decode("pil")))
    assert decoded["seg.png"].mode == "RGB", "or the warning can go"


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("model.onxx", [], "the ending says the format; did you mean '.onnx'"),
        ("model.ts", [], "TorchScript is deprecated"),
        ("no/model.pt2", [], "does not exist"),
        ("model.pt2", ["--size", "8x8"], "32 or more"),
        ("model.pt2", ["--size", "axb"], "expected HEIGHTxWIDTH"),
        ("model.pt2", ["--int8"], "--int8 is for ONNX"),
        ("model.onnx", ["--int8", "--fp16"], "exclude each other"),
        ("model.onnx", ["--int8"], "give --data"),
        ("model.pt2", ["--data", "nowhere"], "nowhere does not exist"),
        ("model.pt2", ["--checkpoint", "none.pt"], "checkpoint none.pt does not exist"),
    ],
)
def test_mistakes(best: Path, out: str, more: list[str], message: str, tmp_path: Path) -> None:
    result = invoke(best, tmp_path / out, *more)
    assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_another_dataset_is_refused(best: Path, toy: Path, tmp_path: Path) -> None:
    result = invoke(best, tmp_path / "model.pt2", "--data", str(toy))
    assert isinstance(result.exception, UserError) and "is not the dataset that the net was trained on" in str(
        result.exception
    )
