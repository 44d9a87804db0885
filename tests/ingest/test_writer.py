"""Same bytes for any worker count and after any kill; a full disk leaves nothing; other readers agree."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import writer
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.shards import idx
from ingest.shards import tar as shard
from ingest.shards.manifest import load
from ingest.sources.raw import RawDataset
from tests.ingest.conftest import write_pair


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def found(raw: Path) -> RawDataset:
    return find(raw, load_spec(str(raw / "dataset.yaml")))


def write(raw: Path, out: Path, workers: int = 1, **options) -> None:
    given = {"shard_size": 10_000, "seed": 0, "command": "test", "options": {}} | options
    writer.write(found(raw), out, workers=workers, **given)


def test_same_bytes_for_any_number_of_workers(raw: Path, tmp_path: Path):
    for workers in (1, 3):
        write(raw, tmp_path / str(workers), workers)
    one = hashes(tmp_path / "1")
    assert len([name for name in one if name.endswith(".tar")]) > 3  # several shards a split
    assert hashes(tmp_path / "3") == one


def test_shuffled_once_by_the_seed(raw: Path):
    order = [sample.key for shard in writer.plan(found(raw), 10_000, 0) for sample in shard.samples]
    again = [sample.key for shard in writer.plan(found(raw), 10**9, 0) for sample in shard.samples]
    other = [sample.key for shard in writer.plan(found(raw), 10_000, 1) for sample in shard.samples]
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
    plan = writer.plan(found(raw), 10_000, 0)
    last = plan[-1].samples[-1].pair.image
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
