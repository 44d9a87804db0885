"""`python -m bench.predict`: does prediction keep the net busy, and what do windows cost beside the plain way?

Rows: the net alone on images that are in memory already; `train.predict` on files, masks only and with overlays; and on
a larger image windows as `train.predict` does them beside the way of yassouali/pytorch-segmentation: one window at a
time, its scores brought to the host and added up there. Both give the same scores, which is checked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import nets
from bench.results.table import aligned, ratio
from ingest.errors import UserError, run
from ingest.shards import atomic
from ingest.shards.manifest import IGNORE
from pipeline.options import bundled
from train import backends, model
from train.checkpoints.state import DatasetFacts
from train.log import provenance
from train.predict import run as predicting
from train.predict.inputs import find
from train.predict.options import Size
from train.predict.outputs import Output
from train.predict.raw import Reader
from train.predict.scene import Labeler
from train.predict.windows import Inference, gaussian, segment, starts

CLASSES = 19
_AGREE = 1e-3  # largest difference of the two ways' scores


@dataclass(frozen=True)
class Row:
    """What one way reached."""

    name: str
    images_per_second: float
    megapixels_per_second: float
    ratio: float | None
    """To the row that it stands beside."""


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    net: str
    size: tuple[int, int]
    """Of the images, pixels."""
    window: tuple[int, int]
    """Of a window; the image that is done in windows is four times as large as the others."""
    images: int
    rounds: int
    """Each way is taken that often, in turns; the best counts."""


def measure(setting: Setting, device: torch.device) -> list[Row]:
    """The rows. UserError for a net that does not exist, or where the two ways of windows disagree."""
    labeler = _labeler(setting, device)
    picture = _photo(setting.size, 0)
    cached = torch.from_numpy(picture)[None].permute(0, 3, 1, 2).to(device)
    with tempfile.TemporaryDirectory(prefix="segrail-bench-") as folder:
        for number in range(setting.images):
            Image.fromarray(_photo(setting.size, number)).save(Path(folder) / f"{number}.jpg", quality=90)
        ways: dict[str, Callable[[], None]] = {
            "net alone": lambda: _net_alone(labeler, cached, setting.images, device),
            "train.predict, masks": lambda: _predict(labeler, Path(folder), 0.0, setting.images),
            "train.predict, masks and overlays": lambda: _predict(labeler, Path(folder), 0.55, setting.images),
        }
        rows = _rows(ways, setting, setting.images, setting.size)
    return rows + _windows(setting, labeler, device)


@torch.inference_mode()
def _windows(setting: Setting, labeler: Labeler, device: torch.device) -> list[Row]:
    size = 2 * setting.size[0], 2 * setting.size[1]
    images = torch.from_numpy(_photo(size, 99))[None].permute(0, 3, 1, 2).to(device)
    how = Inference(labeler.how.amp, window=setting.window)
    ours = segment(labeler.net, images, how).float().cpu()
    theirs = one_by_one(labeler.net, images, how)
    apart = (ours - theirs).abs().max().item() / ours.abs().max().item()
    if apart > _AGREE:
        raise UserError(f"the two ways of windows differ by {apart:.2g} of the largest score: not comparable")
    ways: dict[str, Callable[[], None]] = {
        "windows one by one, added up on the host": lambda: _classes(one_by_one(labeler.net, images, how)),
        "windows of train.predict": lambda: _classes(segment(labeler.net, images, how)),
    }
    return _rows(ways, setting, 1, size)


def one_by_one(net: torch.nn.Module, images: Tensor, how: Inference) -> Tensor:
    """Windows as pytorch-segmentation does them: one at a time, its scores brought to the host and added up there.

    With the same windows and weights as ours. -> float32 [1, K, H, W] on the CPU.
    """
    assert how.window is not None
    height, width = images.shape[2:]
    window = min(how.window[0], height), min(how.window[1], width)
    weight = gaussian(window).numpy()
    total: NDArray[np.float32] | None = None
    weights = np.zeros((height, width), np.float32)
    for y in starts(height, window[0], how.steps[0]):
        for x in starts(width, window[1], how.steps[1]):
            with model.autocast(how.amp, images.device):
                logits = net(images[:, :, y : y + window[0], x : x + window[1]])
            scores = logits.float().cpu().numpy()[0]
            if total is None:
                total = np.zeros((len(scores), height, width), np.float32)
            total[:, y : y + window[0], x : x + window[1]] += scores * weight
            weights[y : y + window[0], x : x + window[1]] += weight
    assert total is not None
    return torch.from_numpy(total / weights)[None]


def table(rows: list[Row]) -> str:
    """For the terminal. The ratio is to the row that each stands beside: the net alone, or windows one by one."""
    cells = [
        [row.name, f"{row.images_per_second:.2f}", f"{row.megapixels_per_second:.2f}", ratio(row.ratio)] for row in rows
    ]
    return aligned(["", "images/s", "MP/s", "ratio"], cells)


def _rows(ways: dict[str, Callable[[], None]], setting: Setting, images: int, size: tuple[int, int]) -> list[Row]:
    """Each way in turns, after one turn to warm up; the first is what the others are compared with."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(setting.rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    first = next(iter(best.values()))
    return [
        Row(name, images / took, images * size[0] * size[1] / 1e6 / took, None if number == 0 else first / took)
        for number, (name, took) in enumerate(best.items())
    ]


@torch.inference_mode()
def _net_alone(labeler: Labeler, images: Tensor, count: int, device: torch.device) -> None:
    for _ in range(count):
        _classes(segment(labeler.net, images, labeler.how))
    if device.type == "cuda":
        torch.cuda.synchronize()


def _predict(labeler: Labeler, folder: Path, opacity: float, count: int) -> None:
    facts = DatasetFacts(
        name="bench",
        classes=[f"class {c}" for c in range(CLASSES)],
        palette=[[9 * c, 255 - 9 * c, 5 * c] for c in range(CLASSES)],
        mean=[0.5, 0.5, 0.5],
        std=[0.25, 0.25, 0.25],
        channels=3,
        ignore=IGNORE,
        pixels=None,
        raw_ids=None,
    )
    with tempfile.TemporaryDirectory(prefix="segrail-bench-") as out:
        output = Output.of(facts, Path(out), opacity, (False, None, "train"))
        done = predicting.run(find([str(folder)], None), labeler, Reader.of(facts), output, auto=False, quiet=True)
    assert done.written == count and not done.failed


def _classes(logits: Tensor) -> None:
    logits.argmax(dim=1).to(torch.uint8).cpu()


def _labeler(setting: Setting, device: torch.device) -> Labeler:
    try:
        net = nets.build(setting.net, num_classes=CLASSES, pretrained=False)
    except nets.NetError as error:
        raise UserError(f"--net: {error}") from error
    backends.set_tf32(True, device)
    whole = nets.Segmenter(net, [0.5] * 3, [0.25] * 3).eval().to(device).to(memory_format=torch.channels_last)
    return Labeler(whole, device, Inference("auto"), setting.window, CLASSES, "bench")


def _photo(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Smooth noise, uint8 [H, W, 3]: a JPEG of it is about as large as a photo's."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8))
    return np.array(small.resize((size[1], size[0]), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Options(Setting):
    """The command's."""

    device: str
    json_path: Path | None


@click.command(context_settings={"max_content_width": 110})
@click.option("--net", default="enet", show_default=True, help="An architecture of `python -m nets list`.")
@click.option("--size", type=Size(), default="512x1024", show_default=True, help="Of the images.")
@click.option("--window", type=Size(), default="512x512", show_default=True, help="Of a window.")
@click.option("--images", type=click.IntRange(1), default=8, show_default=True, help="Images a round.")
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Each way in turns; the best counts."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the rows.")
@bundled(Options)
def main(options: Options) -> None:
    """Measure prediction: the net alone, `train.predict` on files, and windows beside the plain way."""
    device, size, window = options.device, options.size, options.window
    if device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu: torch finds no GPU here; use --device cpu")
    if min(size) < 64:
        raise UserError(f"--size {size[0]}x{size[1]}: give 64 pixels or more each way")
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    rows = measure(options, place)
    name = torch.cuda.get_device_name() if place.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    click.echo(f"{options.net}, {size[0]}x{size[1]}, windows of {window[0]}x{window[1]} on four times that, {name}")
    click.echo(table(rows))
    if options.json_path:
        setting = {key: value for key, value in asdict(options).items() if key != "json_path"}
        found = {"setting": setting, "device": name, "versions": provenance.versions(), "rows": list(map(asdict, rows))}
        options.json_path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(options.json_path, found)


if __name__ == "__main__":
    run(main, "python -m bench.predict")
