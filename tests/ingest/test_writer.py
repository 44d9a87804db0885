"""Same bytes for any worker count and after any kill; a full disk leaves nothing; other readers agree."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ingest import room, writer
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.pixels.images import Format
from ingest.plan import plan
from ingest.shards import idx
from ingest.shards import tar as shard
from ingest.shards.manifest import load
from ingest.sources.raw import RawDataset
from ingest.verify import verify
from tests.ingest.conftest import SPEC, write_pair


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def found(raw: Path) -> RawDataset:
    return find(raw, load_spec(str(raw / "dataset.yaml")))


def write(raw: Path, out: Path, workers: int = 1, **options) -> None:
    given = {"shard_size": 10_000, "seed": 0, "command": "test", "options": {}} | options
    writer.write(found(raw), out, writer.Settings(workers=workers, **given))


def test_same_bytes_for_any_number_of_workers(raw: Path, tmp_path: Path):
    for workers in (1, 3):
        write(raw, tmp_path / str(workers), workers)
    one = hashes(tmp_path / "1")
    assert len([name for name in one if name.endswith(".tar")]) > 3  # several shards a split
    assert hashes(tmp_path / "3") == one


def test_shuffled_once_by_the_seed(raw: Path):
    order = [sample.key for shard in plan(found(raw), 10_000, 0) for sample in shard.samples]
    again = [sample.key for shard in plan(found(raw), 10**9, 0) for sample in shard.samples]
    other = [sample.key for shard in plan(found(raw), 10_000, 1) for sample in shard.samples]
    assert order == again and order != sorted(order) and other != order and sorted(other) == sorted(order)


def test_full_disk_leaves_nothing(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = shard.TarWriter._write

    def full(self, data: bytes) -> None:
        if self.size > 5_000:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        real(self, data)

    monkeypatch.setattr(shard.TarWriter, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        write(raw, tmp_path / "out", shard_size=10**9)
    assert not list(tmp_path.glob("out*"))


def test_an_error_keeps_finished_shards_for_resume(raw: Path, tmp_path: Path):
    last = plan(found(raw), 10_000, 0)[-1].samples[-1].pair.image
    whole = Path(last.path).read_bytes()
    Path(last.path).write_bytes(b"x" * len(whole))  # same size, so the same plan
    with pytest.raises(UserError, match=r"shards are done: go on with --resume"):
        write(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--resume"):
        write(raw, tmp_path / "out")
    with pytest.raises(UserError, match="other options"):
        write(raw, tmp_path / "out", resume=True, seed=1)
    Path(last.path).write_bytes(whole)
    write(raw, tmp_path / "out", resume=True)
    write(raw, tmp_path / "fresh")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_resume_makes_shards_anew_whose_files_changed(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file of the same name and size, written later: what was made of the old one is not taken for it."""
    shards = plan(found(raw), 10_000, 0)
    first, last = (Path(shards[i].samples[0].pair.image.path) for i in (0, -1))
    whole = last.read_bytes()
    last.write_bytes(b"x" * len(whole))
    with pytest.raises(UserError, match=rf"{len(shards) - 1} of {len(shards)} shards are done: go on with --resume"):
        write(raw, tmp_path / "out")
    last.write_bytes(whole)
    changed = np.asarray(Image.open(first)).copy()
    changed[:8, :8] = 255 - changed[:8, :8]
    stored = io.BytesIO()
    Image.fromarray(changed).save(stored, "JPEG")
    size = len(first.read_bytes())
    first.write_bytes(stored.getvalue()[:size].ljust(size, b"\0"))  # of the old size, though not as it should be
    record = tmp_path / "out.partial" / f"{shards[1].name}.json"
    record.write_bytes(record.read_bytes()[:-40])  # and one whose record was damaged since
    (tmp_path / "out.partial" / "x.idx.1-0.partial").mkdir()  # as a kill leaves it
    again = []
    real = writer.begin
    monkeypatch.setattr(writer, "begin", lambda folder, name, mark: (again.append(name), real(folder, name, mark)))
    write(raw, tmp_path / "out", resume=True)
    assert again == [shards[0].name, shards[1].name, shards[-1].name]
    write(raw, tmp_path / "fresh")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")
    assert not list((tmp_path / "out").glob("*.sources"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_resume_after_kill_is_exact(tmp_path: Path):
    """Twenty SIGKILLs at random moments, with and without workers; the end is what one quiet run gives."""
    raw = tmp_path / "raw"
    for number in range(240):
        write_pair(raw, "train", f"s{number}", number, (120, 160))
    (raw / "dataset.yaml").write_text(
        "{name: t, classes: [a, b, c], ignore: [9], splits: {train: {images: 'img/train/*', labels: 'lbl/train/*'}}}"
    )

    def command(out: str, workers: int) -> list[str]:
        words = ["folder", raw, "--spec", raw / "dataset.yaml", "--shard-size", "100kB", "--resume"]
        return [sys.executable, "-m", "ingest", *map(str, words), "--workers", str(workers), "--out", tmp_path / out]

    start = time.monotonic()
    subprocess.run(command("quiet", 1), check=True, capture_output=True)
    took = time.monotonic() - start
    expected = hashes(tmp_path / "quiet")
    rng, kills, rounds, partly = random.Random(0), 0, 0, 0
    while kills < 20:
        rounds += 1
        out = f"killed{rounds}"
        partial = tmp_path / f"{out}.partial"
        for attempt in range(100):
            process = subprocess.Popen(
                command(out, 1 + attempt % 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                # late enough for it to have begun, early enough to hit it at work
                process.wait(rng.uniform(0.2, 0.6) * took)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                partly += partial.is_dir() and any(partial.glob("*.json"))
                assert not (tmp_path / out).exists() or (tmp_path / out / "dataset.json").exists()
        subprocess.run(command(out, 2), check=True, capture_output=True)
        assert hashes(tmp_path / out) == expected
    assert partly > 3  # some kills did hit between shards


def test_index_is_that_of_wds2idx(raw: Path, tmp_path: Path):
    wds2idx = pytest.importorskip("wds2idx")
    write(raw, tmp_path / "out", shard_size=10**9)
    tar = tmp_path / "out" / "train-000000.tar"
    with wds2idx.IndexCreator(str(tar), str(tmp_path / "theirs.idx"), verbose=False) as creator:
        creator.create_index()
    assert (tmp_path / "theirs.idx").read_text() == tar.with_suffix(".idx").read_text() == idx.text(idx.of_tar(tar))


def test_webdataset_reads_the_same(raw: Path, tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    write(raw, tmp_path / "out", shard_size=10**9)
    tar = tmp_path / "out" / "train-000000.tar"
    theirs = [
        (one["__key__"], {"jpg": one["jpg"], "seg.png": one["seg.png"]})
        for one in webdataset.WebDataset(str(tar), shardshuffle=False)
    ]
    assert theirs == list(shard.read_samples(tar))


def test_raw_pixels_are_read_by_webdataset_and_numpy(raw: Path, tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    for form in ("raw", "png"):
        write(raw, tmp_path / f"as-{form}", shard_size=10**9, images=Format(form))
    tars = [str(tmp_path / f"as-{form}" / "train-000000.tar") for form in ("raw", "png")]
    decoded = [list(webdataset.WebDataset(tar, shardshuffle=False).decode("rgb8")) for tar in tars]
    assert len(decoded[0]) == 10
    for raw_one, png_one in zip(*decoded, strict=True):
        assert raw_one["__key__"] == png_one["__key__"]
        np.testing.assert_array_equal(raw_one["npy"], png_one["png"])
        np.testing.assert_array_equal(raw_one["seg.png"], png_one["seg.png"])


def test_raw_says_what_it_costs_and_asks_for_room(raw: Path, tmp_path: Path, ingest, monkeypatch: pytest.MonkeyPatch):
    words = ["folder", raw, "--spec", raw / "dataset.yaml", "--image-format", "raw", "--out", tmp_path / "out"]
    for more in (["--dry-run"], ["--workers", "1"]):
        done = ingest(*words, *more)
        assert done.returncode == 0, done.stderr
        assert "images as pixels take about " in done.stderr and "times the source files" in done.stderr
    stored = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert abs(room.raw_bytes(found(raw), None) - stored) < 0.5 * stored  # tiny images: mostly headers and padding
    verify(tmp_path / "out", deep=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"take about .*; .* has 1.0 kB free: make room"):
        write(raw, tmp_path / "full", images=Format("raw"))
    assert not list(tmp_path.glob("full*"))


def test_raw_shards_are_of_the_size_asked_for(tmp_path: Path):
    for number in range(40):
        write_pair(tmp_path / "raw", "train", f"s{number}", number, (100, 120))
        write_pair(tmp_path / "raw", "val", f"v{number}", number, (100, 120))
    (tmp_path / "raw" / "dataset.yaml").write_text(SPEC)
    write(tmp_path / "raw", tmp_path / "out", images=Format("raw"), shard_size=400_000)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.tar")]
    assert len(sizes) > 6 and max(sizes) < 600_000 and min(sizes) > 200_000


def test_dali_and_our_loader_read_the_same(raw: Path, tmp_path: Path):
    fn = pytest.importorskip("nvidia.dali.fn")
    from nvidia.dali import pipeline_def, types

    from ingest.shards.reader import ShardSet

    write(raw, tmp_path / "out")
    out = tmp_path / "out"
    tars = [out / f"{one.name}.tar" for one in load(out).splits["train"].shards]
    ours = [files for tar in tars for _, files in shard.read_samples(tar)]
    shards = ShardSet(out, "train")
    assert [bytes(shards.image(n)) for n in range(len(shards))] == [files["jpg"] for files in ours]
    assert [bytes(shards.label(n)) for n in range(len(shards))] == [files["seg.png"] for files in ours]

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def read():
        jpeg, label = fn.readers.webdataset(
            paths=[str(tar) for tar in tars],
            index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
            ext=["jpg", "seg.png"],
            name="wds",
        )
        return jpeg, label, fn.decoders.image(label, output_type=types.GRAY)

    pipe = read()
    pipe.build()
    for files in ours:
        jpeg, label, decoded = (np.array(output[0]) for output in pipe.run())
        assert jpeg.tobytes() == files["jpg"] and label.tobytes() == files["seg.png"]
        np.testing.assert_array_equal(decoded[..., 0], np.asarray(Image.open(io.BytesIO(files["seg.png"]))))
