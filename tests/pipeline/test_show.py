"""`python -m pipeline show`: the picture holds the crops that training gets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ingest.errors import UserError
from ingest.shards import pictures
from ingest.shards.reader import ShardSet
from pipeline import plan, sheet
from pipeline.__main__ import main
from pipeline.augment import Augment
from pipeline.config import Stream
from tests.loaders import train_loader
from tests.shard_folder import COLORS, smooth_scene, write_shards

STREAM = Stream(seed=3, augment=Augment(crop=(64, 64), base_size=60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [smooth_scene(50, 70, seed=i) for i in range(5)]
    test = [(image, None) for image, _ in scenes]
    return write_shards(tmp_path_factory.mktemp("show"), {"train": scenes, "test": test})


def test_the_crops_are_those_of_training(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    found = sheet.crops(shards, STREAM, 4, epoch=2, device="cpu")
    loader = train_loader(shards, STREAM.augment, 1, seed=3)
    batches = list(itertools.islice(loader, 14))[10:]
    for crop, batch in zip(found, batches, strict=True):
        assert [crop.key] == batch.keys
        np.testing.assert_array_equal(crop.image, batch.images[0].permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(crop.label, batch.labels[0].numpy())
        # What is drawn as padding is ignored; a pixel on the very edge may round either way.
        assert (crop.label[crop.outside] != 255).sum() < 20
    assert any(crop.outside.any() for crop in found)


def test_the_caption_tells_the_draws(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    for crop in sheet.crops(shards, STREAM, 5, epoch=0, device="cpu"):
        draws = plan.draw(3, 0, np.array([shards.keys.index(crop.key)]))
        assert ("flipped" in crop.caption) == (draws.flip[0] < 0.5)
        assert f"turned {20 * draws.angle[0] - 10:+.1f}°" in crop.caption
        scale = float(crop.caption.split()[1].strip(","))
        assert scale == pytest.approx((0.5 + 1.5 * draws.scale[0]) * 60 / 70, abs=0.02)


def test_the_sheet_shows_image_label_and_padding(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    found = sheet.crops(shards, STREAM, 3, epoch=0, device="cpu")
    page = np.asarray(sheet.sheet(found, shards.manifest))
    colors = {tuple(color) for color in np.unique(page.reshape(-1, 3), axis=0).tolist()}
    seen = {int(i) for crop in found for i in np.unique(crop.label) if i != 255}
    assert {tuple(COLORS[i]) for i in seen} <= colors
    assert pictures.IGNORED in colors and {(150, 150, 150), (95, 95, 95)} <= colors
    # The first picture stands in the corner below the titles, enlarged by whole pixels: 64 -> 256.
    np.testing.assert_array_equal(page[38 : 38 + 256 : 4, 10 : 10 + 256 : 4], found[0].image)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts_can_be_shown(tmp_path: Path, channels: int) -> None:
    scenes = [(np.repeat(image[:, :, :1], channels, axis=2), label) for image, label in [smooth_scene(40, 50, 1)]]
    shards = ShardSet(write_shards(tmp_path, {"train": scenes}, ext="npy"), "train")
    page = sheet.sheet(sheet.crops(shards, STREAM, 9, epoch=0, device="cpu"), shards.manifest)
    assert page.shape[1] > 3 * 256


def test_the_command_writes_the_picture_and_names_mistakes(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: str):
        return CliRunner().invoke(main, ["show", str(folder), "-n", "2", *arguments])

    out = tmp_path / "sheet.png"
    result = run("--out", str(out), "augment.crop=[40,60]")
    assert result.exit_code == 0 and result.output.strip() == str(out)
    assert Image.open(out).height > 200
    for arguments, message in [
        (["--out", str(tmp_path / "no" / "x.png")], "make the folder"),
        (["--out", str(tmp_path / "x.txtt")], "give a name that ends in .png"),
        (["--split", "test"], "has no labels"),
        (["--split", "trian"], "did you mean 'train'"),
        (["--cfg", "scenes_ennet"], "did you mean 'scenes_enet'"),
        (["augment.flip=2"], "augment.flip = 2"),
    ]:
        failed = run(*arguments)
        assert isinstance(failed.exception, UserError) and message in str(failed.exception)
    assert run("--help").exit_code == 0
