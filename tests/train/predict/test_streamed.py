"""Scores in rows, at several sizes of the image: the same as of the whole image, and from any row on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from tests.train.predict.test_predict import altered, geotiff, photo, run
from tests.train.predict.test_windows import Field, images
from train.predict import scene, streamed, windows
from train.predict.resample import averaging, bilinear, resample
from train.predict.windows import Inference, segment

HOWS = [
    Inference("off", window=(40, 48), scales=(0.5, 1.0, 1.5), flip=True),
    Inference("off", scales=(0.75, 1.25)),
    Inference("off", size=64),
    Inference("off", size=64, window=(24, 32)),
    Inference("off", size=150, side="shorter", window=(64, 64), scales=(0.3, 1.0)),
    Inference("off"),
]


@pytest.mark.parametrize("new", [(30, 41), (92, 120), (13, 83), (61, 20)])
@pytest.mark.parametrize("antialias", [True, False])
def test_regions_are_those_of_the_resized_image(new: tuple[int, int], antialias: bool) -> None:
    picture = images(61, 83)
    whole = interpolate(picture.float(), new, mode="bilinear", align_corners=False, antialias=antialias)
    taps = averaging if antialias else bilinear
    rows, columns = taps(61, new[0], new[0] // 3, new[0] - 2), taps(83, new[1], new[1] // 4, new[1])
    (top, bottom), (left, right) = rows.span, columns.span
    found = resample(picture[:, :, top:bottom, left:right], rows, columns, (top, left))
    assert top > 0 and left > 0
    assert (found - whole[:, :, new[0] // 3 : new[0] - 2, new[1] // 4 :]).abs().max() < 255 * 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.describe())
def test_rows_are_those_of_the_whole_image_and_go_on_anywhere(how: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (windows, streamed):
        monkeypatch.setattr(module, "ROW_BYTES", 4 * 5 * 32 * 470)
    monkeypatch.setattr(streamed, "_MOST_ROWS", 30)
    net, picture = Field().eval(), images(110, 151)

    def read(y: int, x: int, height: int, width: int) -> torch.Tensor:
        return picture[:, :, y : y + height, x : x + width]

    lanes = streamed.lanes_of((110, 151), how, 4)
    assert (len(lanes) > 1) == (how.window is not None and how.size != 64)
    whole = segment(net, picture, how)
    for lane in lanes:
        parts = list(streamed.streamed(read, (110, 151), net, how, lane))
        found = torch.cat([logits for _, logits in parts], dim=2)
        assert (found - whole[:, :, :, lane[0] : lane[1]]).abs().max() < 1e-4
        middle = parts[len(parts) // 2][0]
        again = [logits for _, logits in streamed.streamed(read, (110, 151), net, how, lane, middle)]
        assert middle > 0 and torch.equal(torch.cat(again, dim=2), found[:, :, middle:])


@pytest.mark.parametrize("more", [["--scales", "0.5,1.5", "--flip"], ["--mode", "whole"], []])
def test_large_images_and_scenes_at_other_sizes(
    trained: Path, tmp_path: Path, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo and a TIFF that is read by region get the labels that they get when they are taken at once."""
    net = trained
    if not more:  # a net that was trained on scaled images
        net = altered(trained, tmp_path / "scaled.pt", lambda state: state["config"]["data"].update(val_size=60))
    picture = photo(tmp_path / "in" / "a.png", 150, 200)
    geotiff(tmp_path / "in" / "b.tif", picture, photometric="RGB")
    window = [] if "whole" in more or not more else ["--window", "64"]
    found = []
    for most in (10**9, 4000):
        monkeypatch.setattr(scene, "MOST_WHOLE", most)
        out = tmp_path / str(most)
        assert run(net, "--images", tmp_path / "in", "--out", out, *window, *more).return_value == 0
        found += [np.asarray(Image.open(out / "masks" / name)) for name in ("a.png", "b.tif")]
    assert len(np.unique(found[0])) > 1
    for other in found[1:]:  # a near tie may fall the other way
        assert (other != found[0]).mean() < 1e-3
