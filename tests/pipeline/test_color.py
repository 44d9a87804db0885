"""Colors, turns, flips, sizes and erasing: what they do, how often, and that both devices do the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import color, geometry, plan
from pipeline.augment import Augment
from pipeline.feeding import Feeding
from pipeline.gpu import batches as gpu
from tests.loaders import train_loader
from tests.shard_folder import smooth_scene, write_shards

FILL = [102, 128, 153]  # mean of tests.shard_folder's datasets
PHOTOMETRIC = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 36.0}
AUGMENT = Augment(crop=(48, 64), base_size=80, **PHOTOMETRIC)


def draws_of(count: int, seed: int = 3) -> plan.Draws:
    return plan.draw(seed, 0, np.arange(count))


def applied(colors: color.Colors, i: int, rgb: np.ndarray) -> np.ndarray:
    """float64 [..., 3] -> the same, neither rounded nor clipped."""
    return rgb @ colors.maps[i, :, :3].T.astype(float) + colors.maps[i, :, 3]


# --- what the changes are ---


def test_each_change_has_its_range_and_chance() -> None:
    colors = color.colors(draws_of(4000), AUGMENT, FILL)
    assert colors is not None
    for values, neutral, reach in (
        (colors.shift / 255, 0, 0.125),
        (colors.gain, 1, 0.5),
        (colors.saturation, 1, 0.5),
        (colors.hue, 0, 36),
    ):
        changed = values[values != neutral]
        assert abs(len(changed) / 4000 - 0.5) < 0.04
        # shifts are whole gray levels
        assert stats.kstest(changed, stats.uniform(neutral - reach, 2 * reach).cdf).statistic < 0.05
        assert np.abs(changed - neutral).max() <= reach + 0.002
    always = color.colors(draws_of(4000), replace(AUGMENT, color_chance=1), FILL)
    assert always is not None and (always.gain != 1).all() and (always.hue != 0).all()


def test_changes_are_independent() -> None:
    colors = color.colors(draws_of(4000), replace(AUGMENT, color_chance=1.0, gray=0.2), FILL)
    assert colors is not None
    values = np.stack([colors.shift, colors.gain, colors.hue, colors.saturation == 0])
    assert np.abs(np.corrcoef(values) - np.eye(4)).max() < 0.06
    assert abs((colors.saturation == 0).mean() - 0.2) < 0.03


def test_a_map_is_the_changes_one_after_another() -> None:
    """Brightness and contrast by definition; saturation 0 is the luma; a hue of 360 degrees is none."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (50, 3))
    only = {key: replace(Augment(color_chance=1), **{key: value}) for key, value in PHOTOMETRIC.items()}
    draws = draws_of(5)
    for i in range(5):
        found = color.colors(draws, only["brightness"], FILL)
        np.testing.assert_allclose(applied(found, i, pixels), pixels + found.shift[i], atol=1e-3)
        found = color.colors(draws, only["contrast"], FILL)
        np.testing.assert_allclose(applied(found, i, pixels), pixels * found.gain[i], atol=1e-3)
        found = color.colors(draws, only["saturation"], FILL)
        luma = (pixels @ [0.299, 0.587, 0.114])[:, None]
        np.testing.assert_allclose(applied(found, i, pixels), luma + found.saturation[i] * (pixels - luma), atol=0.6)
        found = color.colors(draws, Augment(gray=1), FILL)
        np.testing.assert_allclose(applied(found, i, pixels), np.repeat(luma, 3, axis=1), atol=0.8)
    turned = color.colors(draws, only["hue"], FILL)
    back = color._chroma(np.ones(5), -turned.hue)
    for i in range(5):
        there = applied(turned, i, pixels)
        assert np.abs(there - pixels).max() > 5
        np.testing.assert_allclose(there @ back[i].T, pixels, atol=1e-2)
        np.testing.assert_allclose(there @ [0.299, 0.587, 0.114], pixels @ [0.299, 0.587, 0.114], atol=0.6)
        np.testing.assert_allclose(applied(turned, i, np.full((1, 3), 90.0)), 90, atol=0.2)  # gray stays gray


def test_padding_keeps_the_mean_color() -> None:
    colors = color.colors(draws_of(500), AUGMENT, FILL)
    assert colors is not None
    after = np.stack([applied(colors, i, colors.padding[i].astype(float)) for i in range(500)])
    reachable = ((colors.padding > 0) & (colors.padding < 255)).all(axis=1)
    assert reachable.mean() > 0.95
    assert np.abs(after - FILL)[reachable].max() < 1.6  # half a level of padding, times gain and chroma
    gray = color.colors(draws_of(500), Augment(gray=1), FILL)
    luma = np.dot(FILL, [0.299, 0.587, 0.114])
    assert gray is not None and np.abs(gray.padding - luma).max() <= 0.5


# --- what is erased ---


def test_rectangles_have_their_area_aspect_place_and_chance() -> None:
    augment = Augment(crop=(200, 300), erase=0.4, erase_area=(0.05, 0.15))
    found = color.rectangles(draws_of(6000), augment)
    assert found is not None
    top, left, height, width = found[found[:, 2] > 0].T
    assert abs(len(top) / 6000 - 0.4) < 0.03 and (found[found[:, 2] == 0] == 0).all()
    share = height * width / 60000
    assert stats.kstest(share, stats.uniform(0.05, 0.1).cdf).statistic < 0.04
    assert 0.28 < (height / width).min() < 0.33 and 3 < (height / width).max() < 3.5
    assert abs(np.log(height / width).mean()) < 0.05
    assert top.min() == 0 and left.min() == 0
    assert (top + height).max() == 200 and (left + width).max() == 300
    assert color.rectangles(draws_of(3), Augment()) is None
    whole = color.rectangles(draws_of(50), Augment(crop=(10, 90), erase=1, erase_area=(1, 1)))
    assert whole is not None and (whole[:, :2] + whole[:, 2:] <= [10, 90]).all() and (whole[:, 2:] >= 1).all()


# --- turns, flips, sizes ---

PLAIN = Augment(crop=(60, 80), base_size=0, scale=(1, 1), rotate=0, flip=0, blur=0)


def crop_of(shards: ShardSet, augment: Augment, seed: int) -> tuple[np.ndarray, np.ndarray, plan.Draws]:
    batch = next(iter(train_loader(shards, augment, 1, seed=seed)))
    draws = plan.draw(seed, 0, np.array([int(batch.keys[0].split("-")[1])]))
    return batch.images[0].permute(1, 2, 0).numpy(), batch.labels[0].numpy(), draws


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet(write_shards(tmp_path_factory.mktemp("one"), {"train": [smooth_scene(60, 80, 1)]}), "train")


def test_quarter_turns_are_numpys(one: ShardSet) -> None:
    image, label = smooth_scene(60, 80, 1)
    seen = set()
    for seed in range(25):
        for crop in ((60, 80), (80, 60)):
            augment = replace(PLAIN, crop=crop, quarter_turns=0.75)
            found, ids, draws = crop_of(one, augment, seed)
            turns = int(geometry.quarter_turns(draws, augment)[0])
            seen.add(turns)
            if (60, 80)[:: -1 if turns % 2 else 1] == crop:  # the turned image fills the crop: a plain copy
                np.testing.assert_array_equal(found, np.rot90(image, turns))
                np.testing.assert_array_equal(ids, np.rot90(label, turns))
    assert seen == {0, 1, 2, 3}
    turns = geometry.quarter_turns(draws_of(8000), replace(PLAIN, quarter_turns=0.6))
    assert stats.chisquare(np.bincount(turns), np.array([0.4, 0.2, 0.2, 0.2]) * 8000).pvalue > 1e-4


def test_vertical_flips_are_numpys_and_as_frequent_as_asked(one: ShardSet) -> None:
    image, label = smooth_scene(60, 80, 1)
    augment = replace(PLAIN, vertical_flip=0.5, flip=0.5)
    seen = set()
    for seed in range(20):
        found, ids, draws = crop_of(one, augment, seed)
        flips = (draws.vertical_flip[0] < 0.5, draws.flip[0] < 0.5)
        steps = (-1 if flips[0] else 1, -1 if flips[1] else 1)
        np.testing.assert_array_equal(found, image[:: steps[0], :: steps[1]])
        np.testing.assert_array_equal(ids, label[:: steps[0], :: steps[1]])
        seen.add(flips)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("keys", "size", "expected"),
    [
        ({"resize": "longer", "base_size": 100}, (50, 200), (25, 100)),
        ({"resize": "shorter", "base_size": 100}, (50, 200), (100, 400)),
        ({"resize": "ratio", "base_size": 100, "longest": 300}, (50, 200), (75, 300)),
        ({"resize": "ratio", "base_size": 100, "longest": 300}, (150, 200), (100, 133)),
        ({"resize": "ratio", "base_size": 512, "longest": 2048}, (1024, 2048), (512, 1024)),
        ({"resize": "shorter", "base_size": 0}, (50, 200), (50, 200)),
    ],
)
def test_resize_says_which_side_is_scaled(keys: dict, size: tuple[int, int], expected: tuple[int, int]) -> None:
    augment = Augment(scale=(1, 1), **keys)
    for height, width in (size, size[::-1]):
        (found,) = geometry.scaled_sizes(draws_of(1), np.array([[height, width]]), augment)
        assert tuple(found) == (expected if (height, width) == size else expected[::-1])
    # both limits move with the factor, as in mmsegmentation
    (doubled,) = geometry.scaled_sizes(draws_of(1), np.array([size]), replace(augment, scale=(2, 2)))
    assert np.abs(doubled - 2 * np.array(expected)).max() <= 1


# --- both devices ---


@pytest.mark.parametrize("ext", ["png", "jpg"])
@pytest.mark.parametrize(
    "keys",
    [
        {**PHOTOMETRIC, "color_chance": 1.0, "blur": 0},
        {**PHOTOMETRIC, "gray": 0.3, "erase": 0.7},
        {"quarter_turns": 0.75, "vertical_flip": 0.5, "erase": 1.0, "resize": "shorter"},
        {"resize": "ratio", "longest": 90, "base_size": 70},
    ],
)
def test_dali_agrees_with_opencv(tmp_path: Path, ext: str, keys: dict) -> None:
    """The GPU's graph, on the CPU: a stream of both."""
    augment = replace(Augment(crop=(48, 64), base_size=80), **keys)
    sizes = [(60, 80), (81, 55), (64, 64), (33, 97)]
    folder = write_shards(tmp_path, {"train": [smooth_scene(*sizes[i % 4], i) for i in range(12)]}, ext=ext)
    loader, other = (train_loader(ShardSet(folder, "train"), augment, 4) for _ in range(2))
    dali = gpu.crops(other.shards, other._requests(), other.stream, Feeding(threads=1))
    for ours, theirs, _ in zip(loader, dali, range(4), strict=False):
        assert ours.keys == theirs.keys
        difference = (ours.images.int() - theirs.images.int()).abs().numpy()
        # OpenCV rounds places to 1/32 of a pixel, which contrast and saturation may double.
        assert np.quantile(difference, 0.98) <= 3 and difference.mean() < 0.9
        assert (ours.labels != theirs.labels).float().mean() < 0.01


def test_a_damaged_sample_has_the_mean_color_on_both_devices(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [smooth_scene(60, 80, i) for i in range(2)]})
    tar = folder / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    start = content.find(b"train-1.png\0") + 512
    content[start + 100 : start + 200] = bytes(100)
    tar.write_bytes(content)
    for seed in range(4):
        loader = train_loader(ShardSet(folder, "train"), AUGMENT, 2, seed=seed, on_bad_sample="skip")
        dali = gpu.crops(loader.shards, loader._requests(), loader.stream, loader.feeding)
        for batch in (next(iter(loader)), next(dali)):
            bad = batch.images[batch.keys.index("train-1")].permute(1, 2, 0).int()
            assert np.abs(bad.numpy() - FILL).max() <= 2


# --- mistakes ---


def test_colors_of_other_than_three_channels_are_refused_by_name(tmp_path: Path) -> None:
    scenes = [(np.repeat(image[:, :, :1], 4, axis=2), label) for image, label in [smooth_scene(40, 50, 1)]]
    shards = ShardSet(write_shards(tmp_path, {"train": scenes}, ext="npy"), "train")
    with pytest.raises(UserError, match=r"augment.contrast changes colors.* 4 channels.*set augment.contrast=0, .*hue"):
        train_loader(shards, Augment(contrast=0.5, hue=10), 1)
    train_loader(shards, Augment(vertical_flip=0.5, quarter_turns=0.5, erase=0.5), 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"brightness": 1.5}, "augment.brightness = 1.5: expected 0..1"),
        ({"contrast": 1.0}, "augment.contrast = 1.0: expected 0..0.95"),
        ({"saturation": 2}, "augment.saturation = 2: expected 0..1"),
        ({"hue": 200.0}, "augment.hue = 200.0: expected 0..180"),
        ({"gray": 1.1}, "augment.gray = 1.1: a probability"),
        ({"quarter_turns": 2}, "augment.quarter_turns = 2: a probability"),
        ({"erase_area": (0.3, 0.1)}, r"augment.erase_area = \[0.3, 0.1\]: expected \[low, high\]"),
        ({"erase_area": (0.0, 0.1)}, "erase_area"),
        ({"resize": "ratio"}, "augment.resize = ratio needs augment.longest"),
        ({"longest": 10**6}, "augment.longest = 1000000"),
    ],
)
def test_values_that_make_no_sense(keys: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augment(**keys)
