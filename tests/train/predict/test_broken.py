"""Disks that fill and videos that end too early: said in a line, nothing half written is left as if it were whole."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError, explain
from ingest.pixels import tiff
from tests.shard_folder import COLORS, smooth_scene
from tests.train.predict.test_predict import geotiff, run
from train.predict import outputs, scene
from train.predict.outputs import Output


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """No file may get longer than `size` bytes: writing fails in the middle of it, as on a disk that fills."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("missing", [2000, 60_000, 200_000])
def test_a_geotiff_that_finds_no_room_is_no_geotiff(tmp_path: Path, missing: int) -> None:
    """Also where the room ends in what GDAL writes when it closes the file, of which it tells nobody."""
    pytest.importorskip("rasterio")
    mask = np.random.default_rng(0).integers(0, 250, (500, 500), dtype=np.uint8)
    output = Output(tmp_path, ["a"] * 5, COLORS, 0)
    place = tiff.Place("EPSG:32632", (10, 0, 6e5, 0, -10, 5.2e6))
    path = tmp_path / "a.tif"
    outputs._geotiff(path, mask, outputs._values(output), place)
    whole = path.stat().st_size
    path.unlink()
    with room(whole - missing), pytest.raises(UserError, match=r"a\.tif could not be written .*has room"):
        outputs._geotiff(path, mask, outputs._values(output), place)
    assert not list(tmp_path.iterdir())


def video(path: Path, frames: int) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        target.start_encoding()
        for seed in range(frames):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(smooth_scene(48, 64, seed)[0], format="rgb24")))
        target.mux(stream.encode())
    return path


def test_videos_that_have_no_frames_or_too_few_are_listed(trained: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    none = video(tmp_path / "none.avi", 0)
    half = video(tmp_path / "half.avi", 20)
    data = half.read_bytes()
    half.write_bytes(data[: len(data) * 2 // 3])
    video(tmp_path / "good.avi", 3)
    with av.open(str(tmp_path / "sound.mp4"), "w") as target:
        target.add_stream("aac", rate=16_000)
        target.start_encoding()
    result = run(trained, "--images", tmp_path, "--out", tmp_path / "o")
    assert result.return_value == 1 and "1 file labeled" in result.stdout
    told = result.stderr[result.stderr.index("3 files failed:") :].strip().splitlines()[1:]
    assert f"{half} ends after" in told[0] and "of its 20 frames" in told[0]
    assert f"{none} has no frames" in told[1] and "sound.mp4 has no video stream" in told[2]
    assert sorted(path.name for path in (tmp_path / "o" / "videos").iterdir()) == ["good.mp4", "half.mp4"]


def test_a_disk_that_fills_during_a_video_ends_it_in_one_line(trained: Path, tmp_path: Path) -> None:
    source = video(tmp_path / "v.avi", 8)
    with room(500):
        result = run(trained, "--images", source, "--out", tmp_path / "o", fails=True)
    assert isinstance(result.exception, OSError) and result.exception.errno == errno.EFBIG
    told = explain(result.exception)
    assert told is not None and told[1] == 2 and "videos/v.mp4" in told[0] and "\n" not in told[0]
    assert not list((tmp_path / "o" / "videos").iterdir())


def test_scenes_read_by_region_get_an_overlay_of_their_shape(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = smooth_scene(150, 200, 1)[0]
    geotiff(tmp_path / "s.tif", image)
    monkeypatch.setattr(scene, "MOST_WHOLE", 5000)
    monkeypatch.setattr(outputs, "_REDUCED", 19_200)
    assert outputs.reduced(150, 200) == (120, 160)
    run(trained, "--images", tmp_path / "s.tif", "--out", tmp_path / "o", "--window", "64", "--overlay", "0.001")
    with Image.open(tmp_path / "o" / "overlays" / "s.jpg") as shown:
        assert shown.width == 160 and shown.height > 120, "and a legend below"
        drawn = np.asarray(shown.convert("RGB"))[:120].astype(int)
    assert abs(drawn - outputs.sampled(image, (120, 160))).mean() < 8
    monkeypatch.setattr(outputs, "_MOST_OVERLAY", 5000)  # of images in memory likewise
    Image.fromarray(image).save(tmp_path / "p.png")
    run(trained, "--images", tmp_path / "p.png", "--out", tmp_path / "o", "--window", "64")
    with Image.open(tmp_path / "o" / "overlays" / "p.jpg") as shown:
        assert shown.width == 160


def test_a_reduced_overlay_fits_a_jpeg() -> None:
    assert outputs.reduced(100, 200) == (100, 200)
    height, width = outputs.reduced(20_000, 20_000)
    assert height == width and 5.9e6 < height * width <= 6e6
    assert outputs.reduced(20, 1_000_000) == (1, 16_384)
