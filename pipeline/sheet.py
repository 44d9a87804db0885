"""Draws training crops as the net sees them: image | label | both, for each its key and its random numbers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.shards.manifest import Manifest
from ingest.shards.reader import ShardSet
from pipeline import geometry, plan
from pipeline.augment import Augment, blur_radius, blur_sigmas
from pipeline.config import Stream
from pipeline.loader import TrainLoader

Picture = NDArray[np.uint8]

_CELL = 256  # longest side of a picture, pixels
_GAP, _LINE, _SWATCH = 10, 18, 12
_PAPER, _INK, _FAINT = (24, 24, 27), (244, 244, 245), (161, 161, 170)
_IGNORED = (255, 255, 255)
_STRIPES = ((150, 150, 150), (95, 95, 95))
_MAX_WIDTH = 1640


@dataclass(frozen=True)
class Crop:
    """One sample of the stream."""

    key: str
    image: Picture  # uint8 [h, w, C]
    label: Picture  # uint8 [h, w]
    outside: NDArray[np.bool_]  # [h, w]: padding
    caption: str


def crops(shards: ShardSet, stream: Stream, count: int, epoch: int, device: str) -> list[Crop]:
    """The first `count` crops of an epoch's stream. UserError when the split has no labels."""
    # Batches of one: the stream itself, whatever the batch size.
    window = stream.shuffle_window
    loader = TrainLoader(shards, stream.augment, 1, seed=stream.seed, shuffle_window=window, device=device)
    loader.load_state_dict({"epoch": epoch, "position": 0, "fingerprint": loader.fingerprint()})
    found = []
    with contextlib.closing(iter(loader)) as batches:
        for batch in islice(batches, min(count, len(shards))):
            sample = np.array([shards.keys.index(batch.keys[0])])
            draws = plan.draw(stream.seed, epoch, sample)
            matrix = geometry.matrices(draws, shards.sizes_hw[sample], stream.augment)[0]
            assert batch.labels is not None  # the loader refuses splits without
            found.append(
                Crop(
                    batch.keys[0],
                    batch.images[0].permute(1, 2, 0).cpu().numpy(),
                    batch.labels[0].cpu().numpy(),
                    outside(matrix, shards.sizes_hw[sample[0]], stream.augment.crop),
                    _caption(draws, matrix, stream.augment),
                )
            )
    return found


def outside(matrix: NDArray[np.float64], size_hw: NDArray[np.int64], crop: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a crop has no image, bool [h, w]: its places, taken to the source by `matrix` [2, 3], lie beyond."""
    y, x = np.mgrid[: crop[0], : crop[1]]
    source_x, source_y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    return (source_x < -0.5) | (source_y < -0.5) | (source_x > size_hw[1] - 0.5) | (source_y > size_hw[0] - 0.5)


def sheet(found: list[Crop], facts: Manifest) -> Image.Image:
    """The crops in rows, a legend of the classes below; padding is striped."""
    cells = [_cell(crop, facts.palette) for crop in found]
    width, height = (max(cell.size[axis] for cell in cells) for axis in (0, 1))
    columns = max(1, min(len(cells), _MAX_WIDTH // (width + _GAP)))
    rows = -(-len(cells) // columns)
    total_width = max(columns * (width + _GAP) + _GAP, 480)
    legend = _legend(facts, total_width)
    page = Image.new("RGB", (total_width, rows * (height + _GAP) + _GAP + legend.height), _PAPER)
    for number, cell in enumerate(cells):
        page.paste(cell, (_GAP + number % columns * (width + _GAP), _GAP + number // columns * (height + _GAP)))
    page.paste(legend, (0, page.height - legend.height))
    return page


def _caption(draws: plan.Draws, matrix: NDArray[np.float64], augment: Augment) -> str:
    # The matrix goes from the crop to the source: its inverse's size is the magnification.
    words = [
        f"scale {1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))):.2f}",
        f"turned {(2 * draws.angle[0] - 1) * augment.rotate:+.1f}°",
    ]
    if draws.flip[0] < augment.flip:
        words.append("flipped")
    sigma = blur_sigmas(draws, augment)[0]
    if blur_radius(sigma):
        words.append(f"blur {sigma:.2f} px")
    return ", ".join(words)


def _cell(crop: Crop, palette: list[list[int]]) -> Image.Image:
    """Image | label | label over image, and two lines of text."""
    image = crop.image[..., :3] if crop.image.shape[2] >= 3 else np.repeat(crop.image[..., :1], 3, axis=2)
    table = np.full((256, 3), _IGNORED, np.uint8)
    table[: len(palette)] = palette
    colours = table[crop.label]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    stripes = np.array(_STRIPES, np.uint8)[(x + y) // 4 % 2]
    colours[crop.outside] = stripes[crop.outside]
    blend = (0.5 * colours + 0.5 * image).astype(np.uint8)
    unjudged = (crop.label == 255) & ~crop.outside
    blend[unjudged] = image[unjudged]  # what is ignored stays itself: only classes are tinted
    scale = _CELL / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    # As sharp as the crop is: enlarged pixels stay squares, labels never mix.
    smooth = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    cell = Image.new("RGB", (3 * size[0] + 4, size[1] + 2 * _LINE), _PAPER)
    for number, picture in enumerate((image, colours, blend)):
        how = Image.Resampling.NEAREST if number == 1 else smooth
        cell.paste(Image.fromarray(np.ascontiguousarray(picture)).resize(size, how), (number * (size[0] + 2), 0))
    draw = ImageDraw.Draw(cell)
    draw.text((0, size[1] + 2), crop.key, _INK, font=_font())
    draw.text((0, size[1] + _LINE), crop.caption, _FAINT, font=_font())
    return cell


def _legend(facts: Manifest, width: int) -> Image.Image:
    """A swatch a class, one for ignored pixels and one for padding."""
    entries = [*zip(facts.classes, map(tuple, facts.palette), strict=True), ("ignored (255)", _IGNORED)]
    font = _font()
    step = _SWATCH + 6 + max(int(font.getlength(name)) for name, _ in [*entries, ("padding (255)", ())]) + 16
    columns = max(1, (width - 2 * _GAP) // step)
    page = Image.new("RGB", (width, -(-(len(entries) + 1) // columns) * _LINE + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, (name, color) in enumerate([*entries, ("padding (255)", _STRIPES[0])]):
        x, y = _GAP + number % columns * step, _GAP + number // columns * _LINE
        draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), color, _FAINT)
        if number == len(entries):
            for stripe in range(0, _SWATCH, 4):
                draw.line((x + stripe, y + _SWATCH, x + _SWATCH, y + stripe), _STRIPES[1], 2)
        draw.text((x + _SWATCH + 6, y - 1), name, _INK, font=font)
    return page


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
