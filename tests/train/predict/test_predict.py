"""Prediction as a user runs it: every kind of input and output, windows of scenes, and files that fail."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.recipe import PixelRecipe
from tests.conftest import ROOT
from tests.shard_folder import COLORS, smooth_scene
from train import model
from train.checkpoints import checkpoint
from train.distributed import Ranks
from train.predict import labeling, outlines, outputs, scene
from train.predict.command import command
from train.predict.raw import Reader
from train.predict.trained import load


def run(trained: Path, *arguments: object, fails: bool = False) -> Result:
    result = CliRunner().invoke(
        command,
        ["--checkpoint", str(trained), "--device", "cpu", *map(str, arguments)],
        standalone_mode=False,
        catch_exceptions=fails,
    )
    return result


def altered(trained: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint with other facts of its dataset."""
    state = checkpoint.load(trained)
    change(state)
    checkpoint.save(path, {key: value for key, value in state.items() if key != "format"})
    return path


def photo(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = smooth_scene(height, width, seed)[0]
    Image.fromarray(image).save(path)
    return image


def expected(trained: Path, image: np.ndarray) -> np.ndarray:
    """The logits [K, H, W] of the whole image."""
    net = model.from_checkpoint(checkpoint.load_net(trained))
    with torch.inference_mode():
        return net(torch.from_numpy(image)[None].permute(0, 3, 1, 2))[0].numpy()


def test_masks_overlays_probabilities_of_folders_patterns_and_files(trained: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "in" / "deep" / "a.png")
    photo(tmp_path / "in" / "b.png", seed=1)
    photo(tmp_path / "c.png", seed=2)
    photo(tmp_path / "d.jpg", seed=3)
    out = tmp_path / "out"
    result = run(
        trained, "--images", tmp_path / "in", "--images", tmp_path / "*.jpg", "--out", out, "--probabilities",
        tmp_path / "c.png",
    )  # fmt: skip
    assert result.return_value == 0 and "4 files labeled" in result.output
    logits = expected(trained, image)
    mask = Image.open(out / "masks" / "deep" / "a.png")
    assert mask.mode == "P" and mask.getpalette()[:3] == COLORS[0]
    assert (np.asarray(mask) == logits.argmax(0)).all()
    shares = np.load(out / "probabilities" / "deep" / "a.npy")
    assert shares.dtype == np.float16 and np.abs(shares - torch.from_numpy(logits).softmax(0).numpy()).max() < 1e-3
    overlay = Image.open(out / "overlays" / "deep" / "a.jpg")
    assert overlay.width >= 56 and overlay.height > 40, "the image, and a legend below it"
    assert {path.stem for path in (out / "masks").glob("*.png")} == {"b", "c", "d"}


def test_a_file_that_fails_is_listed_and_the_others_are_done(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photo(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"junk")
    content = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(content[: len(content) // 2])
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(tmp_path / "in" / "deep.png")
    result = run(trained, "--images", tmp_path / "in", "--out", tmp_path / "out", "--overlay", 0)
    assert result.return_value == 1 and "2 files labeled" in result.stdout
    told = result.stderr.strip().splitlines()
    start = told.index("3 files failed:")
    for line, words in zip(
        told[start + 1 :], ("b.png cannot be", "bad.jpg cannot be", "is not 8-bit RGB"), strict=True
    ):
        assert words in line
    assert sorted(path.stem for path in (tmp_path / "out" / "masks").iterdir()) == ["a", "c"]
    assert not (tmp_path / "out" / "overlays").exists()


def test_files_of_16_bits_are_told_of(trained: Path, tmp_path: Path) -> None:
    """The net was trained on 8-bit pictures: 12-bit values in such files are nearly black to it, and a line says so."""

    def ingested(state: dict[str, Any]) -> None:
        state["dataset"]["pixels"] = PixelRecipe().as_dict()

    plain = altered(trained, tmp_path / "plain.pt", ingested)
    for name, top, kind in (("a", 4000, "png"), ("b", 60000, "png"), ("c", 3000, "tif")):
        image = np.full((40, 56), top // 2, np.uint16)
        image[0, 0] = top
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / f"{name}.{kind}")
    photo(tmp_path / "a" / "photo.png")

    for folders, told in (
        ("ac", "warning: 2 files of 16 bits a value, the largest 4,000: the net was trained on 8-bit pictures, so it "
         "was shown the high bytes, 0..15 of 255, nearly black: save them as 8 bits with 4,095 as white, or ingest "
         "such files with `range: [0, 4095]` in the spec and train on those\n"),
        ("b", "note: 1 file of 16 bits a value, the largest 60,000: the net was trained on 8-bit pictures, so it was "
         "shown the high bytes, 0..234 of 255\n"),
    ):  # fmt: skip
        result = run(plain, "--images", *(tmp_path / folder for folder in folders), "--out", tmp_path / "o")
        assert result.return_value == 0 and result.stderr == told
    with pytest.warns(UserWarning, match="the largest 4,000: .* nearly black"):
        load(plain, "cpu").predict(tmp_path / "a" / "a.png")
    tifffile.imwrite(
        tmp_path / "four.tif", np.zeros((40, 56, 4), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    assert (
        "four.tif has 4 bands of uint8, and the net was trained on 8-bit RGB"
        in run(plain, "--images", tmp_path / "four.tif", "--out", tmp_path / "o").stderr
    )
    ranged = altered(trained, tmp_path / "ranged.pt", lambda state: state["dataset"].update(
        pixels=PixelRecipe(ranges=((0, 4095),)).as_dict()))  # fmt: skip
    assert run(ranged, "--images", tmp_path / "a" / "a.png", "--out", tmp_path / "o").stderr == ""


def test_shards_are_labeled_sample_by_sample(trained: Path, toy: Path, tmp_path: Path) -> None:
    result = run(trained, "--images", toy, "--split", "val", "--out", tmp_path / "val")
    assert result.return_value == 0 and "5 files labeled" in result.output
    image = smooth_scene(40, 56, seed=100)[0]
    assert (
        np.asarray(Image.open(tmp_path / "val" / "masks" / "val-0.png")) == expected(trained, image).argmax(0)
    ).all()
    result = run(trained, "--images", toy, "--out", tmp_path / "all")
    assert "17 files labeled" in result.output and len(list((tmp_path / "all" / "masks" / "train").iterdir())) == 12


def test_raw_ids_are_those_of_the_source(trained: Path, tmp_path: Path) -> None:
    image = photo(tmp_path / "a.png")
    known = altered(trained, tmp_path / "k.pt", lambda state: state["dataset"].update(raw_ids=[7, 0, 33, 11, 200]))
    assert run(known, "--images", tmp_path / "a.png", "--out", tmp_path / "o", "--ids", "raw").return_value == 0
    mask = Image.open(tmp_path / "o" / "masks" / "a.png")
    truth = expected(trained, image).argmax(0)
    assert (np.asarray(mask) == np.array([7, 0, 33, 11, 200])[truth]).all()
    assert mask.convert("RGB").getpixel((0, 0)) == tuple(COLORS[truth[0, 0]])
    result = run(trained, "--images", tmp_path / "a.png", "--out", tmp_path / "o", "--ids", "raw", fails=True)
    assert isinstance(result.exception, UserError) and "use --ids train" in str(result.exception)


def test_coco_outlines_fill_to_the_masks(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / "in" / f"{name}.png", seed=ord(name))
    run(trained, "--images", tmp_path / "in", "--out", tmp_path / "o", "--polygons", "coco")
    found = json.loads((tmp_path / "o" / "polygons.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["a.png", "b.png"]
    assert [category["name"] for category in found["categories"]] == [f"class{i}" for i in range(5)]
    for image in found["images"]:
        mask = np.asarray(Image.open(tmp_path / "o" / "masks" / image["file_name"]))
        mine = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        assert (_filled(mine, mask.shape) == mask).all()
        assert sum(one["area"] for one in mine) == mask.size


def _filled(annotations: list[dict[str, Any]], shape: tuple[int, ...]) -> np.ndarray:
    drawn = np.full(shape, 255, np.uint8)
    for one in annotations:
        part = np.zeros(shape, np.uint8)
        if isinstance(one["segmentation"], list):
            cv2.fillPoly(part, [np.array(one["segmentation"][0]).reshape(-1, 2)], 1)
        else:
            values = np.arange(len(one["segmentation"]["counts"])) % 2
            part = np.repeat(values, one["segmentation"]["counts"]).reshape(shape, order="F").astype(np.uint8)
        assert part.sum() == one["area"]
        x, y, width, height = one["bbox"]
        assert part[y : y + height, x : x + width].sum() == one["area"]
        drawn[part == 1] = one["category_id"] - 1
    return drawn


def test_areas_with_holes_are_run_lengths() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:15, 4:20] = 1
    mask[6:9, 8:12] = 2
    found = outlines.coco(mask)
    assert [isinstance(one["segmentation"], dict) for one in found] == [True, True, False]
    assert (_filled(found, mask.shape) == mask).all()


@pytest.mark.peers
def test_pycocotools_reads_the_outlines() -> None:
    coder = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((20, 30), np.uint8)
    mask[3:15, 4:20] = 1
    mask[6:9, 8:12] = 2
    for one in outlines.coco(mask):
        if isinstance(one["segmentation"], dict):
            decoded = coder.decode(coder.frPyObjects(one["segmentation"], 20, 30))
            assert (decoded == (mask == one["category_id"] - 1)).all()


def test_large_images_are_done_in_windows_and_go_on_where_they_stopped(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "MOST_WHOLE", 5000)
    photo(tmp_path / "a.png", 150, 200)
    arguments = ["--images", tmp_path / "a.png", "--window", "48", "--stride", "32"]
    monkeypatch.setattr(scene, "MOST_WHOLE", 10**9)
    run(trained, *arguments, "--out", tmp_path / "whole")
    monkeypatch.setattr(scene, "MOST_WHOLE", 5000)
    run(trained, *arguments, "--out", tmp_path / "rows")
    whole, rows = (np.asarray(Image.open(tmp_path / name / "masks" / "a.png")) for name in ("whole", "rows"))
    assert (whole == rows).all() and not (tmp_path / "rows" / "unfinished").exists()

    calls: list[int] = []
    write_json = scene.atomic.write_json

    def interrupted(*given: Any, **more: Any) -> None:
        write_json(*given, **more)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(scene.atomic, "write_json", interrupted)
    with pytest.raises((KeyboardInterrupt, click.Abort)):
        run(trained, *arguments, "--out", tmp_path / "again")
    assert list((tmp_path / "again" / "unfinished" / "a").iterdir())
    seen: list[int] = []
    monkeypatch.setattr(scene.atomic, "write_json", lambda *given, **more: (write_json(*given, **more), seen.append(1)))
    run(trained, *arguments, "--out", tmp_path / "again")
    assert len(seen) == 5 - 2, "the two rows of windows that were done are not done again"
    assert (np.asarray(Image.open(tmp_path / "again" / "masks" / "a.png")) == whole).all()


def geotiff(path: Path, pixels: np.ndarray, **more: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(600_000, 5_200_000, 10, 10)
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": transform, "tiled": True} | more
    height, width, bands = pixels.shape
    with rasterio.open(
        path, "w", height=height, width=width, count=bands, dtype=pixels.dtype, blockxsize=64, blockysize=64, **profile
    ) as file:
        file.write(np.moveaxis(pixels, 2, 0))


def test_scenes_keep_their_place_and_are_read_by_region(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16-bit, four bands, of which the net takes three by its recipe: the same labels as of the pixels it makes."""
    rasterio = pytest.importorskip("rasterio")
    image = smooth_scene(150, 200, 1)[0]
    bands = np.concatenate([image[..., ::-1].astype(np.uint16) * 10, np.full((150, 200, 1), 7, np.uint16)], axis=2)
    bands[:20, :30] = 0
    geotiff(tmp_path / "s.tif", bands, nodata=0)
    recipe = PixelRecipe((3, 2, 1), ((0.0, 2550.0),)).as_dict()
    net = altered(trained, tmp_path / "k.pt", lambda state: state["dataset"].update(pixels=recipe))
    found = []
    for number, most in enumerate((10**9, 5000)):
        monkeypatch.setattr(scene, "MOST_WHOLE", most)
        out = tmp_path / str(number)
        assert (
            run(
                net, "--images", tmp_path / "s.tif", "--out", out, "--window", "64", "--polygons", "geojson"
            ).return_value
            == 0
        )
        with rasterio.open(out / "masks" / "s.tif") as mask:
            assert mask.crs.to_epsg() == 32632 and mask.transform.c == 600_000 and mask.nodata == 255
            assert mask.colormap(1)[0][:3] == tuple(COLORS[0]) and mask.block_shapes == [(512, 512)]
            found.append(mask.read(1))
    assert (found[0] == found[1]).all() and (found[0][:20, :30] == 255).all() and (found[0][30:] != 255).all()
    shown = image.copy()
    shown[:20, :30] = 128
    photo_mask = run(trained, "--images", _saved(tmp_path / "p.png", shown), "--out", tmp_path / "p", "--window", "64")
    assert photo_mask.return_value == 0
    assert (np.asarray(Image.open(tmp_path / "p" / "masks" / "p.png"))[30:] == found[0][30:]).all()
    features = json.loads((tmp_path / "1" / "polygons" / "s.geojson").read_text())["features"]
    longitude, latitude = features[0]["geometry"]["coordinates"][0][0]
    assert 10 < longitude < 11 and 46 < latitude < 47 and features[0]["properties"]["class"].startswith("class")


def _saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_photos_are_turned_upright(trained: Path, tmp_path: Path) -> None:
    image = Image.fromarray(smooth_scene(40, 56, 0)[0])
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    run(trained, "--images", tmp_path / "a.jpg", "--out", tmp_path / "o")
    assert Image.open(tmp_path / "o" / "masks" / "a.png").size == (40, 56)


def test_videos_keep_their_frames_and_rate(trained: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "v.mp4"), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in range(7):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(smooth_scene(48, 64, seed)[0], format="rgb24")))
        target.mux(stream.encode())
    (tmp_path / "bad.mp4").write_bytes(b"junk")
    result = run(trained, "--images", tmp_path / "v.mp4", tmp_path / "bad.mp4", "--out", tmp_path / "o")
    assert result.return_value == 1 and "bad.mp4 is no readable video" in result.stderr
    with av.open(str(tmp_path / "o" / "videos" / "v.mp4")) as found:
        assert found.streams.video[0].average_rate == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in found.decode(video=0)]
    assert len(frames) == 7 and frames[0].shape == (48, 64, 3)
    assert sorted(path.name for path in (tmp_path / "o" / "videos").iterdir()) == ["v.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "/nowhere"], "does not exist"),
        (["--images", "{}/none*.png"], "matches no file"),
        (["--images", "{}/empty"], "holds no images"),
        (["--images", "{}/a.png", "{}/a.jpg"], "would both be written to a"),
        (["--images", "{}/a.png", "--window", "10", "--stride", "11"], "uncovered"),
        (["--images", "{}/a.png", "--mode", "whole", "--stride", "11"], "--mode whole takes no"),
    ],
)
def test_mistakes(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "a.png")
    photo(tmp_path / "a.jpg")
    result = run(trained, *(word.format(tmp_path) for word in arguments), "--out", tmp_path / "o", fails=True)
    assert isinstance(result.exception, UserError) and message in str(result.exception)


def test_geojson_needs_a_place(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    photo(tmp_path / "a.png")
    result = run(trained, "--images", tmp_path / "a.png", "--out", tmp_path / "o", "--polygons", "geojson")
    assert result.return_value == 1 and "has no CRS" in result.stderr


def test_nets_of_other_channels_say_what_is_missing() -> None:
    with pytest.raises(UserError, match="takes 8 channels and does not say which bands"):
        Reader.of({"channels": 8, "pixels": None})
    with pytest.raises(UserError, match="recipe is damaged"):
        Reader.of({"channels": 8, "pixels": {"bands": 3}})
    assert Reader.of({"channels": 8, "pixels": PixelRecipe(tuple(range(1, 9))).as_dict()}).recipe is not None


def test_a_full_disk_ends_it_in_one_line(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full takes nothing: the error is the disk's, which ends the run with exit code 2 (`ingest.errors.run`)."""
    photo(tmp_path / "a.png", 150, 200)

    @contextlib.contextmanager
    def full(path: Path) -> Any:
        with open("/dev/full", "wb") as file:
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(outputs.atomic, "opened", full)
        result = run(trained, "--images", tmp_path / "a.png", "--out", tmp_path / "o", "--probabilities", fails=True)
    assert isinstance(result.exception, OSError) and result.exception.errno == errno.ENOSPC

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(scene, "MOST_WHOLE", 5000)
    monkeypatch.setattr(scene.os, "posix_fallocate", no_room)
    result = run(trained, "--images", tmp_path / "a.png", "--out", tmp_path / "p", fails=True)
    assert isinstance(result.exception, OSError) and str(result.exception.filename).endswith("a/mask.npy")
    assert not list((tmp_path / "p").rglob("*.npy")), "what takes room is gone"


def test_arrays_are_numpys(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((3, 5, 7)).astype(np.float16)
    outputs._save_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_ranks_leave_together(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main rank has written everything before any rank can end with 1, upon which torchrun ends the others."""
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"junk")
    there: list[bool] = []

    class Watched(Ranks):
        def gather(self, value: Any) -> list[Any]:
            there.append((tmp_path / "out" / "polygons.json").exists())
            return [value]

    @contextlib.contextmanager
    def alone(device: str) -> Iterator[Ranks]:
        yield Watched(0, 1, 0, 1, torch.device(device))

    monkeypatch.setattr(labeling, "joined", alone)
    result = run(trained, "--images", tmp_path / "in", "--out", tmp_path / "out", "--polygons", "coco")
    assert result.return_value == 1 and there == [False, True] and "polygons.json}" in result.output


def test_ranks_share_the_files(trained: Path, tmp_path: Path) -> None:
    for seed in range(5):
        photo(tmp_path / "in" / f"{seed}.png", seed=seed)
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    arguments = ["--images", tmp_path / "in", "--polygons", "coco", "--overlay", 0]
    assert run(trained, *arguments, "--out", tmp_path / "one").return_value == 1
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train.predict"]
    given = ["--checkpoint", trained, "--device", "cpu", *arguments, "--out", tmp_path / "two"]
    done = subprocess.run(
        [sys.executable, *launch, *map(str, given)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout.count("5 files labeled") == 1, done.stderr
    assert done.stderr.count("bad.png cannot be decoded") == 1
    for name in ("polygons.json", *(f"masks/{seed}.png" for seed in range(5))):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
