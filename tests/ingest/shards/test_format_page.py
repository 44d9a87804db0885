"""docs/format.md is complete: this reader knows the format from the page alone, and finds every sample."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import writer
from ingest.datasets.folder import find, load_spec
from ingest.pixels.images import Format
from ingest.shards import columns, facts

PAGE = Path(__file__).resolve().parents[3] / "docs" / "format.md"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_sum(content: bytes) -> dict:
    parsed = json.loads(content)
    at = content.rindex(parsed["sum"].encode())
    assert list(parsed)[-1] == "sum"
    assert sha256(content[:at] + b"0" * 64 + content[at + 64 :]) == parsed["sum"]
    return parsed


def check_grid(label: np.ndarray, value: int, grid: str) -> None:
    cells = np.frombuffer(base64.b64decode(grid), np.uint8).reshape(8, 8)
    (height, width) = label.shape
    for i in range(8):
        for j in range(8):
            cell = label[i * height // 8 : (i + 1) * height // 8, j * width // 8 : (j + 1) * width // 8]
            assert cells[i, j] == (-(-255 * int((cell == value).sum()) // cell.size) if cell.size else 0)


@pytest.mark.parametrize("form", ["keep", "raw"])
def test_a_reader_of_the_page_finds_everything(raw: Path, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "out"
    settings = writer.Settings(shard_size=20_000, seed=0, command="", options={}, images=Format(form))
    writer.write(find(raw, load_spec(str(raw / "dataset.yaml"))), folder, settings)
    dataset = check_sum((folder / "dataset.json").read_bytes())
    for name, split in dataset["splits"].items():
        index = (folder / f"{name}.index.npz").read_bytes()
        directory = index[struct.unpack("<I", index[-22:][16:20])[0] :]
        found = {"bytes": len(index), "sha256": sha256(index), "directory_sha256": sha256(directory)}
        assert found == split["index"]
        column, n = dict(np.load(io.BytesIO(index))), 0
        for number, shard in enumerate(split["shards"]):
            assert shard["name"] == f"{name}-{number:06d}"
            content, record = ((folder / f"{shard['name']}.{ext}").read_bytes() for ext in ("tar", "json"))
            assert (len(content), sha256(content), sha256(record)) == (
                shard["bytes"],
                shard["sha256"],
                shard["record_sha256"],
            )
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = iter(tar.getmembers())
            for sample in check_sum(record)["samples"]:
                start = column["key_end"][n - 1] if n else 0
                assert column["key_text"][start : column["key_end"][n]].tobytes().decode() == sample["key"]
                image, label = (
                    content[column[f"{kind}_at"][n] : column[f"{kind}_at"][n] + column[f"{kind}_bytes"][n]]
                    for kind in ("image", "label")
                )
                assert zlib.crc32(image) == column["image_crc32"][n] == sample["image_crc32"]
                assert next(members).name == f"{sample['key']}.{sample['image_ext']}"
                assert next(members).name == f"{sample['key']}.seg.png"
                height, width = column["size_hw"][n]
                if sample["image_ext"] == "npy":
                    pixels, pitch = image[-height * width * dataset["channels"] :], width * dataset["channels"]
                    blocks = [zlib.crc32(pixels[top * pitch : (top + 32) * pitch]) for top in range(0, height, 32)]
                    assert blocks == sample["row_crc32"]
                ids = np.asarray(Image.open(io.BytesIO(label)))
                assert [entry[:2] for entry in sample["classes"]] == [
                    [value, int((ids == value).sum())] for value in np.unique(ids)
                ]
                for value, _, grid in sample["classes"]:
                    check_grid(ids, value, grid)
                n += 1
        assert n == split["samples"]


def test_the_page_names_every_key_and_column() -> None:
    page = PAGE.read_text()
    kinds = (facts.Sample, facts.ShardRecord, facts.Shard, facts.Split, facts.IndexFile, facts.Manifest, facts.Skipped)
    names = {name for kind in kinds for name in kind.__dataclass_fields__} | set(columns.NAMES)
    assert not {
        name for name in names if f"`{name}`" not in page and f"{{{name}" not in page and f", {name}" not in page
    }
