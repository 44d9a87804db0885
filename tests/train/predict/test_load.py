"""`train.load`: a checkpoint for notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from ingest.errors import UserError
from tests.conftest import ROOT
from tests.shard_folder import smooth_scene
from train.predict import scene
from train.predict.command import command


def test_importing_train_is_instant() -> None:
    probe = (
        "import sys, train; heavy = {'torch', 'numpy', 'yaml', 'click'} & set(sys.modules); sys.exit(str(heavy or ''))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_a_path_and_its_pixels_are_labeled_as_the_command_does(trained: Path, tmp_path: Path) -> None:
    pixels, _ = smooth_scene(40, 56, seed=3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    model = train.load(trained, device="cpu")
    assert model.classes == [f"class{i}" for i in range(5)] and len(model.palette) == 5
    mask = model.predict(tmp_path / "a.png")
    assert mask.dtype == np.uint8 and mask.shape == (40, 56)
    assert np.array_equal(mask, model.predict(str(tmp_path / "a.png"))) and np.array_equal(mask, model.predict(pixels))
    words = ["--checkpoint", str(trained), "--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    command.main([*words, "--device", "cpu"], standalone_mode=False)
    with Image.open(tmp_path / "out" / "masks" / "a.png") as written:
        assert np.array_equal(np.array(written), mask)


def test_a_large_image_is_done_in_windows(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = smooth_scene(80, 100, seed=3)
    model = train.load(trained.parent.parent, device="cpu")  # a run folder
    whole = model.predict(pixels)
    monkeypatch.setattr(scene, "MOST_WHOLE", 1000)
    seen = []
    forward = model.net.forward
    model.net.forward = lambda images: (seen.append(images.shape[2:]), forward(images))[1]
    assert model.predict(pixels).shape == whole.shape and len(seen) > 1 and max(seen) <= (32, 32)


def test_what_does_not_fit_is_one_line(trained: Path, tmp_path: Path) -> None:
    model = train.load(trained, device="cpu")
    for image, message in [
        (np.zeros((4, 5), np.uint8), r"uint8 \[4, 5\]: expected uint8 \[height, width, channels\], or a path"),
        (np.zeros((4, 5, 3), np.float32), "float32"),
        (np.zeros((4, 5, 4), np.uint8), "the image gives 4 channels, the net takes 3"),
        (tmp_path / "none.png", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            model.predict(image)
    with pytest.raises(UserError, match="does not exist"):
        train.load(tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"device = 'cuda', an unknown name.*Choices: auto, cpu, gpu"):
        train.load(trained, device="cuda")
