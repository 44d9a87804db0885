"""Writes small shard folders for tests, from arrays, by the contract alone (not by ingest's writer)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.shards import manifest

COLORS = [[70, 130, 180], [128, 64, 128], [107, 142, 35], [220, 20, 60], [0, 0, 142]]


def encode(array: np.ndarray, ext: str) -> bytes:
    """uint8 [H, W, 3] or [H, W] -> a JPEG (quality 95) or PNG file; "npy": any array."""
    buffer = io.BytesIO()
    if ext == "npy":
        np.save(buffer, array)
        return buffer.getvalue()
    Image.fromarray(array).save(buffer, "JPEG" if ext == "jpg" else "PNG", quality=95)
    return buffer.getvalue()


def write_shards(
    folder: Path,
    splits: dict[str, list[tuple[np.ndarray, np.ndarray | None]]],
    num_classes: int = 5,
    per_shard: int = 4,
    ext: str = "png",
    schema: int = 1,
) -> Path:
    """A dataset of (image uint8 [H, W, 3], label uint8 [H, W] or None) pairs; keys are `<split>-<number>`.

    schema: 1 has no sums, so that what decoders say of damage can be tested; 2 is what ingest writes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    channels = next(iter(splits.values()))[0][0].shape[2]
    facts = {}
    for split, pairs in splits.items():
        shards = []
        for first in range(0, len(pairs), per_shard):
            keyed = [(f"{split}-{first + i}", pair) for i, pair in enumerate(pairs[first : first + per_shard])]
            shards.append(_write_shard(folder / f"{split}-{first // per_shard:06d}", keyed, num_classes, ext))
        facts[split] = manifest.Split(
            samples=len(pairs),
            labeled=all(label is not None for _, label in pairs),
            shards=[shard for shard, _ in shards],
            class_pixels=[sum(column) for column in zip(*(r.class_pixels for _, r in shards), strict=True)],
            ignored_pixels=sum(r.ignored_pixels for _, r in shards),
            image_size={},
        )
    manifest.save(
        manifest.Manifest(
            name="toy",
            classes=[f"class{i}" for i in range(num_classes)],
            palette=(COLORS * 5)[:num_classes],
            mean=([0.4, 0.5, 0.6] * 3)[:channels],
            std=([0.2, 0.25, 0.3] * 3)[:channels],
            channels=channels,
            splits=facts,
            command="",
            options={},
        ),
        folder,
    )
    return as_schema_1(folder) if schema == 1 else reindex(as_schema_1(folder))


def _write_shard(
    path: Path, pairs: list[tuple[str, tuple[np.ndarray, np.ndarray | None]]], num_classes: int, ext: str
) -> tuple[manifest.Shard, manifest.ShardRecord]:
    """path: without a suffix. pairs: with their keys."""
    samples, files, pixels = [], [], np.zeros(256, dtype=np.int64)
    sums = np.zeros((2, pairs[0][1][0].shape[2]), dtype=np.int64)
    for key, (image, label) in pairs:
        members = [(f"{key}.{ext}", encode(image, ext))]
        if label is not None:
            members.append((f"{key}.seg.png", encode(label, "png")))
            pixels += np.bincount(label.ravel(), minlength=256)
        files.append(members)
        sums += [image.sum((0, 1), np.int64), (image.astype(np.int64) ** 2).sum((0, 1))]
        samples.append(manifest.Sample(key, f"{key}.{ext}", f"{key}.png", ext, *image.shape[:2]))
    tar = path.with_suffix(".tar")
    _write_tar(tar, files)
    size, digest = tar.stat().st_size, hashlib.sha256(tar.read_bytes()).hexdigest()
    class_pixels = pixels[:num_classes].tolist()
    record = manifest.ShardRecord(path.name, size, digest, class_pixels, int(pixels[255]), *sums.tolist(), samples)
    manifest.save_shard(record, path.parent)
    return manifest.Shard(path.name, len(samples), size, digest), record


def reindex(folder: Path) -> Path:
    """Brings a folder to the present schema."""
    from ingest.reindex import reindex as make_anew

    make_anew(folder)
    return folder


NEW_IN_2 = {
    "dataset": {"pixels", "raw_ids", "sum"},
    "split": {"index", "class_images", "class_image_pixels", "unmatched_pixels"},
    "shard": {"record_sha256"},
    "record": {"sum", "unmatched_pixels"},
    "sample": {"image_at", "image_bytes", "label_at", "label_bytes", "row_crc32", "classes", "geo"},
}


def as_schema_1(folder: Path) -> Path:
    """Takes from a folder what schema 1 had not: sums, classes per image, columns."""

    def without(facts: dict, kind: str) -> dict:
        return {key: value for key, value in facts.items() if key not in NEW_IN_2[kind]}

    facts = without(json.loads((folder / "dataset.json").read_text()), "dataset") | {"schema": 1}
    for name, split in facts["splits"].items():
        for shard in split["shards"]:
            path = folder / f"{shard['name']}.json"
            record = without(json.loads(path.read_text()), "record")
            record["samples"] = [without(sample, "sample") for sample in record["samples"]]
            path.write_text(json.dumps(record))
        shards = [without(shard, "shard") for shard in split["shards"]]
        facts["splits"][name] = without(split, "split") | {"shards": shards}
        (folder / f"{name}.index.npz").unlink(missing_ok=True)
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1))
    return folder


def _write_tar(path: Path, samples: list[list[tuple[str, bytes]]]) -> None:
    lines = [f"v1.2 {len(samples)}"]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for members in samples:
            words = []
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                offset = tar.offset + 512  # type: ignore[attr-defined]
                tar.addfile(info, io.BytesIO(content))
                words.append(f"{name.split('.', 1)[1]} {offset} {len(content)} {name}")
            lines.append(" ".join(words))
    path.with_suffix(".idx").write_text("\n".join(lines) + "\n")


def smooth_scene(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random color image and a label of a few large blobs (classes 0..4, some 255)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in random.uniform(0.2, 1.5, (4, 3))]
    image = np.stack(waves[:3], axis=2) * 80 + 128
    label = ((waves[3] + 1) * 2.49).astype(np.uint8)
    label[: height // 8, : width // 8] = 255
    return image.astype(np.uint8), label
