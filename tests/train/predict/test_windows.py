"""Sliding windows against whole images and against MONAI; scales and mirror images against their definition."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn

from ingest.errors import UserError
from train.predict import windows
from train.predict.windows import Inference, gaussian, lanes, segment, starts, stitched


class Field(nn.Module):
    """A net of known receptive field: two convolutions, 9 pixels wide, without padding's influence inside."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, classes, 5, padding=2)
        )  # fmt: skip
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return self.layers(images.float() / 255)


class LastChannels(nn.Module):
    """The same scores, channels last in memory."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.contiguous(memory_format=torch.channels_last)


def images(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@torch.inference_mode()
@pytest.mark.parametrize("window", [(32, 32), (40, 24)])
def test_windows_equal_the_whole_image_away_from_their_borders(window: tuple[int, int]) -> None:
    """Each window is valid 4 pixels inside. Where every window that reaches a pixel is, the mean is the whole's."""
    net, picture = Field().eval(), images(90, 110, 2)
    how = Inference("off", window=window, stride=(window[0] // 2, window[1] // 2), batch=3)
    found, whole = segment(net, picture, how), net(picture)
    assert found.shape == whole.shape
    ys, xs = (starts(side, w, s) for side, w, s in zip((90, 110), window, how.steps, strict=True))
    sound = torch.ones(90, 110, dtype=torch.bool)
    for axis, (places, side) in enumerate(zip((ys, xs), window, strict=True)):
        for place in places:
            for edge in (range(place, place + 4), range(place + side - 4, place + side)):
                sound[(slice(None),) * axis + (list(edge),)] = False
    assert sound.float().mean() > 0.2
    assert (found - whole).abs()[:, :, sound].max() < 1e-4
    # Elsewhere the Gaussian leaves little of a window's border: seams are invisible.
    assert (found - whole).abs()[:, :, 4:-4, 4:-4].max() < 0.15 * whole.std()
    assert {shape[2:] for shape in net.seen[:-1]} == {window}


@pytest.mark.peers
@torch.inference_mode()
@pytest.mark.parametrize(("size", "window"), [((70, 90), (32, 48)), ((64, 64), (32, 32)), ((33, 100), (32, 32))])
def test_equals_monai(size: tuple[int, int], window: tuple[int, int]) -> None:
    inferers = pytest.importorskip("monai.inferers")
    net, picture = Field().eval(), images(*size)
    stride = window[0] // 2, window[1] // 2
    found = segment(net, picture, Inference("off", window=window, stride=stride))
    weight = gaussian(window)
    their_weight = importlib.import_module("monai.data.utils").compute_importance_map(window, "gaussian", 0.125)
    both = torch.minimum(weight, their_weight) > 1e-3  # theirs is never less, ours along each side
    assert both.float().mean() > 0.65 and (weight - their_weight).abs()[both].max() < 1e-6
    theirs = inferers.sliding_window_inference(picture.float(), window, 4, net, overlap=0.5, roi_weight_map=weight)
    assert (found - theirs).abs().max() < 1e-4


@torch.inference_mode()
def test_lanes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, picture = Field().eval(), images(60, 300)
    how = Inference("off", window=(32, 32))
    whole = segment(net, picture, how)
    monkeypatch.setattr(windows, "ROW_BYTES", 4 * 5 * 32 * 140)
    parts = lanes(300, (32, 32), classes=4)
    assert len(parts) > 2 and parts[0][0] == 0 and parts[-1][1] == 300

    def read(y: int, x: int, height: int, width: int) -> Tensor:
        assert width <= 140
        return picture[:, :, y : y + height, x : x + width]

    found, times = torch.zeros_like(whole), torch.zeros(60, 300)
    for y, x, logits in stitched(read, (60, 300), net, how, parts):
        part = slice(y, y + logits.shape[2]), slice(x, x + logits.shape[3])
        found[:, :, part[0], part[1]] = logits
        times[part] += 1
    assert (times == 1).all() and (found - whole).abs().max() < 1e-5


@torch.inference_mode()
def test_scores_keep_the_nets_layout_and_either_gives_the_same() -> None:
    """Adding across memory layouts, and the largest class of each pixel across planes, cost several times as much."""
    net, picture = Field().eval(), images(60, 90)
    last = nn.Sequential(net, LastChannels())
    found = [segment(each, picture, Inference("off", window=(32, 32))) for each in (net, last)]
    assert found[0].is_contiguous() and found[1].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found[0], found[1])


@torch.inference_mode()
def test_images_smaller_than_a_window_are_taken_whole() -> None:
    net, picture = Field().eval(), images(20, 30)
    assert torch.equal(segment(net, picture, Inference("off", window=(64, 64))), net(picture))
    segment(net, images(20, 100), Inference("off", window=(64, 64)))
    assert net.seen[-1][2:] == (20, 64)


@torch.inference_mode()
def test_scales_and_the_mirror_image_are_averaged() -> None:
    net, picture = Field().eval(), images(40, 60)
    how = Inference("off", scales=(0.5, 1.0, 1.5), flip=True)
    total = torch.zeros(1, 4, 40, 60)
    for scale in (0.5, 1.0, 1.5):
        size = (round(40 * scale), round(60 * scale))
        scaled = nn.functional.interpolate(picture.float(), size, mode="bilinear", antialias=True)
        logits = (net(scaled) + net(scaled.flip(3)).flip(3)) / 2
        total += nn.functional.interpolate(logits, (40, 60), mode="bilinear")
    assert (segment(net, picture, how) - total / 3).abs().max() < 1e-5
    assert how.describe() == "whole images, scales 0.5, 1, 1.5, mirrored"


def test_a_stride_that_leaves_pixels_out_is_refused() -> None:
    with pytest.raises(UserError, match="leaves pixels between windows 32 wide uncovered"):
        Inference(window=(64, 32), stride=(64, 33))
    with pytest.raises(UserError, match="--stride without --window"):
        Inference(stride=(64, 33))
    assert Inference(window=(100, 50)).steps == (67, 34)


@pytest.mark.parametrize(("length", "window", "stride"), [(100, 32, 20), (32, 32, 5), (33, 32, 32), (64, 32, 32)])
def test_windows_cover_every_pixel_and_end_with_the_image(length: int, window: int, stride: int) -> None:
    places = starts(length, window, stride)
    covered = {pixel for place in places for pixel in range(place, place + window)}
    assert covered == set(range(length)) and places == sorted(set(places))
