"""The CPU device's decoders against Pillow's, and what they say of damage."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.errors import UserError
from ingest.shards import png
from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.feeding import Feeding, for_split
from pipeline.gpu import batches as gpu
from pipeline.request import Request
from tests.shard_folder import encode, smooth_scene, write_shards


def as_array(file: bytes) -> np.ndarray:
    return np.frombuffer(file, dtype=np.uint8)


def box_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    below, right = (-side % factor for side in pixels.shape[:2])
    padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge").astype(float)
    height, width = padded.shape[0] // factor, padded.shape[1] // factor
    return padded.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))


@pytest.mark.parametrize("ext", ["jpg", "png"])
@pytest.mark.parametrize("size", [(48, 64), (37, 61), (1, 1), (1, 9)])
def test_images_are_pillows_to_the_bit(ext: str, size: tuple[int, int]) -> None:
    file = encode(smooth_scene(*size, seed=3)[0], ext)
    expected = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(decode.image(as_array(file)), expected)
    np.testing.assert_array_equal(decode.image(as_array(file), padded=True)[:, :, :3], expected)
    out = np.zeros((2, *size, 3), np.uint8)  # straight into a batch
    decode.image(as_array(file), out=out[1])
    np.testing.assert_array_equal(out[1], expected)
    assert not out[0].any()


@pytest.mark.parametrize("ext", ["jpg", "png", "npy"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(64, 96), (37, 61)])
def test_downsampling_averages(ext: str, factor: int, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(-20, 20, (*size, 1))
    pixels = (smooth_scene(*size, seed=1)[0].clip(40, 200) + noise).astype(np.uint8)
    if ext == "npy":
        reduced = decode.image(pixels, factor)
    else:
        file = encode(pixels, ext)
        pixels = np.asarray(Image.open(io.BytesIO(file)))
        reduced = decode.image(as_array(file), factor)
    expected = box_means(pixels, factor)
    assert reduced.shape == expected.shape
    difference = np.abs(reduced - expected)
    if ext != "jpg":
        assert difference.max() <= 1
    else:  # the decoder's own averages, and beyond the last row and column what the encoder put there
        inner = difference[: size[0] // factor, : size[1] // factor]
        assert inner.mean() < 1 and inner.max() <= 5
        # teeth: pixels that were merely left out would be far off
        assert np.abs(pixels[::factor, ::factor] - expected).mean() > 5


def test_fast_pngs_are_read_without_a_general_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    image, ids = smooth_scene(37, 61, seed=4)
    monkeypatch.setattr(decode.cv2, "imdecode", None)
    np.testing.assert_array_equal(decode.image(as_array(png.encode(image))), image)
    np.testing.assert_array_equal(decode.image(as_array(png.encode(image)), padded=True)[:, :, :3], image)
    assert np.abs(decode.image(as_array(png.encode(image)), factor=2) - box_means(image, 2)).max() <= 1
    np.testing.assert_array_equal(decode.label(as_array(png.encode(ids))), ids)
    assert np.asarray(Image.open(io.BytesIO(png.encode(image)))).tolist() == image.tolist()  # any reader reads them


@pytest.mark.parametrize("kind", ["ours", "pillow", "filtered", "palette"])
def test_labels_of_any_writer(kind: str) -> None:
    ids = smooth_scene(53, 71, seed=1)[1]
    if kind == "ours":
        file = png.encode(ids)
    else:
        image = Image.fromarray(ids)
        if kind == "palette":
            image.putpalette([0, 0, 0] * 256)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=kind == "filtered")
        file = buffer.getvalue()
    if kind == "palette":  # would come as colors
        with pytest.raises(decode.DecodeError, match="grayscale"):
            decode.label(as_array(file))
    else:
        np.testing.assert_array_equal(decode.label(as_array(file)), ids)


def test_damage_is_told() -> None:
    image, ids = smooth_scene(64, 64, seed=2)
    jpeg, photo, mask = encode(image, "jpg"), encode(image, "png"), png.encode(ids)
    middle = len(jpeg) // 2
    for broken in (
        jpeg[:middle],  # Pillow names this one, DALI too
        jpeg[:middle] + b"\xff\xd9",  # ends early, politely: libjpeg would go on in gray
        jpeg[:middle] + b"\xff" * 40 + jpeg[middle + 40 :],
        b"\xff\xd8",
        photo[: len(photo) // 2],
        png.encode(image)[:-40],
        b"nonsense",
    ):
        with pytest.raises(decode.DecodeError):
            decode.image(as_array(broken))
    for broken in (mask[: len(mask) // 2], mask[:20], mask[:60] + bytes(4) + mask[64:], b"nonsense", jpeg):
        with pytest.raises(decode.DecodeError):
            decode.label(as_array(broken))


@pytest.mark.parametrize("ext", ["png", "jpg"])
def test_the_gpu_device_decodes_jpegs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ext: str) -> None:
    """All else is decoded by the readers' threads, as on the CPU device, and fed as pixels."""
    shards = ShardSet(write_shards(tmp_path, {"train": [smooth_scene(40, 56, i) for i in range(4)]}, ext=ext), "train")
    assert shards.image_formats == {ext}
    decoded: list[str] = []
    ours = {"image": decode.image, "label": decode.label}
    for kind, call in ours.items():
        monkeypatch.setattr(
            decode, kind, lambda *a, kind=kind, call=call, **k: (decoded.append(kind), call(*a, **k))[1]
        )
    batch = next(gpu.whole_images(shards, iter([Request(np.arange(4))]), 4, Feeding(threads=1)))
    assert decoded.count("image") == (4 if ext == "png" else 0) and decoded.count("label") == 4
    assert batch.labels is not None
    for i in range(4):
        np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0), ours["image"](shards.image(i)))
        np.testing.assert_array_equal(batch.labels[i], ours["label"](shards.label(i)))


def test_auto_takes_the_gpu_where_it_decodes(tmp_path: Path) -> None:
    gpu_device, cpu = torch.device("cuda", 1), torch.device("cpu")
    for ext, chosen in (("jpg", gpu_device), ("png", cpu)):
        shards = ShardSet(write_shards(tmp_path / ext, {"train": [smooth_scene(40, 56, 0)]}, ext=ext), "train")
        found = for_split(Feeding(gpu_device), "auto", shards)
        assert (found.device, found.copy_to) == (chosen, None if chosen == gpu_device else gpu_device)
        assert found.pinned == (chosen == cpu)
        assert for_split(Feeding(gpu_device), "cpu", shards).device == cpu
        assert for_split(Feeding(gpu_device), "gpu", shards) == Feeding(gpu_device)
        for choice in ("auto", "cpu"):
            assert for_split(Feeding(cpu), choice, shards) == Feeding(cpu)
        with pytest.raises(UserError, match=r"data\.device = gpu, but the net is on the CPU"):
            for_split(Feeding(cpu), "gpu", shards)
