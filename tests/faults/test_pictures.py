"""Pictures as cameras, scanners and attackers make them, through the command line: right, or refused in one line."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ingest.shards.reader import ShardSet
from pipeline.feeding import Feeding
from pipeline.loader import EvalLoader
from tests.faults.ledger import Tally
from tests.ingest.pixels.test_images import encoded
from tests.ingest.pixels.test_tiff import bmp_claim, claim, png_claim

RANDOM = np.random.default_rng(17)
HEIGHT, WIDTH = 20, 30
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
SPEC = "name: odd\nclasses: [a, b]\nsplits: {train: {images: 'i/*', labels: 'l/*.png'}}\n"


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RGB), "PNG", exif=exif)


def deep(extra: int = 0) -> bytes:
    return encoded(Image.fromarray(RANDOM.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)), "PNG")


def transparent(mode: str) -> bytes:
    image = Image.fromarray(RGB).quantize(16) if mode == "P" else Image.fromarray(RGB).convert(mode)
    return encoded(image, "PNG", **({"transparency": 3} if mode == "P" else {}))


SOUND: dict[str, tuple[str, bytes]] = {
    "rgb": ("png", encoded(Image.fromarray(RGB), "PNG")),
    "16 bits": ("png", deep()),
    "CMYK": ("jpg", encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG")),
    "gray": ("png", encoded(Image.fromarray(RGB[..., 0]), "PNG")),
    "gray + alpha": ("png", transparent("LA")),
    "RGBA": ("png", transparent("RGBA")),
    "1 bit": ("png", encoded(Image.fromarray(RGB).convert("1"), "PNG")),
    "palette": ("png", encoded(Image.fromarray(RGB).quantize(16), "PNG")),
    "palette with transparency": ("png", transparent("P")),
    "progressive": ("jpg", encoded(Image.fromarray(RGB), "JPEG", progressive=True)),
    "4:4:4": ("jpg", encoded(Image.fromarray(RGB), "JPEG", subsampling=0)),
    "BMP": ("bmp", encoded(Image.fromarray(RGB), "BMP")),
    "TIFF": ("tif", encoded(Image.fromarray(RGB), "TIFF")),
    "WebP": ("webp", encoded(Image.fromarray(RGB), "WEBP", lossless=True)),
    **{f"EXIF {number}": ("png", turned(number)) for number in range(1, 9)},
}


# of Adam7: first column and row, steps to the right and down
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def interlaced() -> bytes:
    """Adam7, which Pillow reads and does not write: seven passes, rows filtered by none."""
    import struct
    import zlib

    rows = b"".join(
        b"\0" + RGB[y, x0::dx].tobytes()
        for x0, y0, dx, dy in PASSES
        for y in range(y0, HEIGHT, dy)
        if x0 < WIDTH
    )  # fmt: skip
    out = io.BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        out.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return out.getvalue()


SOUND["interlaced"] = ("png", interlaced())


def ingested(quick: Any, folder: Path, files: dict[str, bytes], hw: tuple[int, int], *options: str) -> Any:
    """`python -m ingest folder` on these images, each with a label of the size."""
    for kind in ("i", "l"):
        (folder / kind).mkdir(parents=True)
    for number, (name, data) in enumerate(files.items()):
        (folder / "i" / name).write_bytes(data)
        label = (np.arange(hw[0] * hw[1]).reshape(hw) + number) % 2
        Image.fromarray(label.astype(np.uint8)).save(folder / "l" / f"{name.partition('.')[0]}.png")
    (folder / "spec.yaml").write_text(SPEC)
    return quick("folder", folder, "--spec", folder / "spec.yaml", "--out", folder / "out", *options)


@pytest.mark.parametrize("image_format", ["keep", "png", "raw"])
def test_pixels_are_those_that_pillow_reads(
    image_format: str, tally: Callable[[str, str], Tally], quick: Any, tmp_path: Path
) -> None:
    count = tally("Odd images", f"kinds of pictures, `--image-format {image_format}`: the pixels that Pillow reads")
    files = {f"{number:02d}.{suffix}": data for number, (suffix, data) in enumerate(SOUND.values())}
    done = ingested(quick, tmp_path / "a", files, (HEIGHT, WIDTH), "--image-format", image_format)
    assert done.returncode == 0, done.stderr
    shards = ShardSet(tmp_path / "a" / "out", "train")
    made = {batch.keys[0]: batch.images[0].permute(1, 2, 0).numpy() for batch in EvalLoader(shards, feeding=Feeding())}
    assert len(made) == len(SOUND)
    for number, (name, (_, data)) in enumerate(SOUND.items()):
        image: Any = Image.open(io.BytesIO(data))
        if name == "16 bits":
            pixels = np.repeat((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)[..., None], 3, 2)
        else:
            pixels = np.asarray(image.convert("RGB"))
        (key,) = [key for key in made if f"{number:02d}" in key]
        count.check(np.array_equal(made[key], pixels), name)


def test_labels_drawn_on_the_upright_picture(tally: Callable[[str, str], Tally], quick: Any, tmp_path: Path) -> None:
    """A label of the size that EXIF 5 to 8 give the picture: it is turned, as the annotator saw it."""
    count = tally("Odd images", "EXIF 5 to 8 with labels of the upright size: the upright pixels")
    files = {f"{number}.png": turned(number) for number in range(5, 9)}
    done = ingested(quick, tmp_path / "a", files, (WIDTH, HEIGHT))
    assert done.returncode == 0, done.stderr
    for batch in EvalLoader(ShardSet(tmp_path / "a" / "out", "train"), feeding=Feeding()):
        (name,) = [name for name in files if name[0] in batch.keys[0]]
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(files[name]))))
        count.check(np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), upright), name)


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_small_pictures(hw: tuple[int, int], tally: Callable[[str, str], Tally], quick: Any, tmp_path: Path) -> None:
    count = tally("Odd images", f"pictures of {hw[0]} x {hw[1]} pixels")
    pixels = RANDOM.integers(0, 256, (*hw, 3), dtype=np.uint8)
    done = ingested(
        quick, tmp_path / "a", dict.fromkeys(["x.png", "y.png"], encoded(Image.fromarray(pixels), "PNG")), hw
    )
    assert done.returncode == 0, done.stderr
    for batch in EvalLoader(ShardSet(tmp_path / "a" / "out", "train"), feeding=Feeding()):
        count.check(np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), pixels), str(hw))
    assert quick("verify", tmp_path / "a" / "out", "--deep").returncode == 0


HOSTILE = {
    "PNG of 60,000 x 60,000": ("png", png_claim(60_000, 60_000)),
    "BMP of 60,000 x 60,000": ("bmp", bmp_claim(60_000, 60_000)),
    "TIFF of 60,000 x 60,000": ("tif", claim(60_000, 60_000)),
    "PNG bomb": ("png", encoded(Image.new("1", (30_000, 30_000)), "PNG")),
    "PNG cut short": ("png", encoded(Image.fromarray(RGB), "PNG")[:-300]),
    "JPEG cut short": ("jpg", encoded(Image.fromarray(RGB), "JPEG")[:300]),
    "an empty file": ("png", b""),
    "HTML": ("jpg", b"<html>not found</html>"),
    "another size than its label": ("png", encoded(Image.fromarray(RGB[:9]), "PNG")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_is_refused(name: str, tally: Callable[[str, str], Tally], quick: Any, tmp_path: Path) -> None:
    count = tally("Odd images", f"{name}: refused, left out by `--skip-bad`")
    suffix, data = HOSTILE[name]
    files = {"good.png": encoded(Image.fromarray(RGB), "PNG"), f"bad.{suffix}": data}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = ingested(quick, tmp_path / "a", files, (HEIGHT, WIDTH))
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    told = done.returncode == 2 and len(lines) == 1 and f"bad.{suffix}" in lines[0] and "Traceback" not in done.stderr
    count.refused(told and not (tmp_path / "a" / "out" / "dataset.json").exists(), done.stderr)
    done = ingested(quick, tmp_path / "b", files, (HEIGHT, WIDTH), "--skip-bad")
    skipped = json.loads((tmp_path / "b" / "out" / "dataset.json").read_text())["splits"]["train"]
    count.refused(done.returncode == 0 and skipped["samples"] == 1, done.stderr)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kilobytes of memory"
