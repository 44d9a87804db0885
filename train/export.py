"""A trained net as one file that needs no segrail: ONNX, torch.export's .pt2, or TorchScript's .ts.

python -m train.export --checkpoint saved/x/y/checkpoints/best.pt --out model.onnx --check

What goes in are plain images, uint8 [N, C, H, W] in RGB, normalised inside; what comes out are logits, float32
[N, K, H, W] at the images' size: argmax over K gives class ids. ONNX and .pt2 take any batch, height and width;
TorchScript is traced, and takes the one height and width that it is traced with.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from ingest.errors import UserError, nearest, run
from train import checkpoint, model

FORMATS = (".onnx", ".pt2", ".ts")
INPUT, OUTPUT = "images", "logits"
# Largest difference of logits that --check lets pass, as a share of the largest logit: float32 sums in another order.
TOLERANCE = 1e-3


def export(net: nn.Module, path: Path, facts: dict[str, Any], size: tuple[int, int] = (512, 512)) -> None:
    """Writes `net` (uint8 images [N,C,H,W] -> logits, in eval mode on the CPU) to path; its ending is the format.

    facts: `model.dataset_facts`, kept in the file as JSON (ONNX: metadata_props; .pt2, .ts: the extra file
    facts.json). size: height and width of the example it is traced with. UserError for another ending, or where the
    exporter is not installed.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the ending says the format{nearest(path.suffix, FORMATS)}")
    # A batch of 2: torch.export takes a 1 in the example for a constant.
    example = photos(facts["channels"], size, batch=2)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
    written = json.dumps(_plain(facts))
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with torch.no_grad(), _quiet():
            if path.suffix == ".onnx":
                _onnx(net, example, facts, partial)
            elif path.suffix == ".pt2":
                program = torch.export.export(net, (example,), dynamic_shapes=shapes)
                torch.export.save(program, partial, extra_files={"facts.json": written})
            else:
                traced = torch.jit.trace(net, example[:1], check_trace=False)
                traced.save(str(partial), _extra_files={"facts.json": written})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _onnx(net: nn.Module, example: Tensor, facts: dict[str, Any], path: Path) -> None:
    try:
        import_module("onnxscript")  # torch's exporter needs it
    except ImportError as error:
        raise UserError("ONNX needs two more packages: pip install onnx onnxscript; or --out model.pt2") from error
    program = torch.onnx.export(
        net,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert program is not None
    metadata = program.model.metadata_props
    metadata.update(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in _plain(facts).items()}
    )
    program.save(path, external_data=False)


def reader(path: Path) -> Callable[[Tensor], Tensor]:
    """The exported file as a function of uint8 images, run by what is meant to run it. UserError without it."""
    if path.suffix == ".onnx":
        try:
            onnxruntime = import_module("onnxruntime")
        except ImportError as error:
            raise UserError("--check of an ONNX file needs onnxruntime: pip install onnxruntime") from error
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {INPUT: images.contiguous().numpy()})[0])
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    return torch.jit.load(str(path))


def check(net: nn.Module, path: Path, channels: int, size: tuple[int, int]) -> str:
    """Compares the file with the net on noise of several sizes and batches; a line on how well they agree.

    UserError where 1% of the logits are further off than TOLERANCE of the largest, or 1% of the pixels get another
    class. (Not "any": where a net unpools, a near tie may fall the other way, and a value lands one pixel off.)
    """
    with _quiet():
        exported = reader(path)
    others = [(1, (size[0] // 2 + 11, size[1] // 2 + 3)), (3, size)] if path.suffix != ".ts" else []
    worst = apart = changed = 0.0
    with torch.no_grad():
        for batch, shape in [(1, size), *others]:
            images = photos(channels, shape, batch)
            expected, found = net(images), exported(images)
            if found.shape != expected.shape:
                raise UserError(f"{path} gives {list(found.shape)} where the net gives {list(expected.shape)}")
            error = (found - expected).abs() / expected.abs().max()
            worst = max(worst, error.max().item())
            apart = max(apart, (error > TOLERANCE).float().mean().item())
            changed = max(changed, (found.argmax(1) != expected.argmax(1)).float().mean().item())
    if not (apart < 0.01 and changed < 0.01):  # not: a NaN is no agreement
        raise UserError(
            f"{path} does not agree with the net: {100 * apart:.2f}% of the logits are off by more than "
            f"{TOLERANCE:g} of the largest, {100 * changed:.2f}% of the pixels get another class: do not use it"
        )
    return (
        f"agrees with the net in {1 + len(others)} sizes: logits within {worst:.2g} of the largest "
        f"({100 * apart:.2f}% of them off by more than {TOLERANCE:g}), {100 * (1 - changed):.2f}% of the pixels get "
        "the same class"
    )


def photos(channels: int, size: tuple[int, int], batch: int = 1) -> Tensor:
    """Smooth noise, uint8 [batch, channels, height, width]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, channels, 8, 8, generator=generator)
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "classes", "palette", "channels", "ignore")
    return {**{key: facts[key] for key in keys}, "input": "uint8 RGB 0..255, NCHW", "output": "logits, NCHW"}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own insides, which nobody here can change."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", value)
    if not match or min(int(match[1]), int(match[2])) < 32:
        raise UserError(f"--size {value!r}: expected HEIGHTxWIDTH in pixels, 32 or more each, such as 512x1024")
    return int(match[1]), int(match[2])


@click.command()
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="model.onnx, model.pt2 or model.ts.")
@click.option(
    "--size",
    callback=_size,
    default="512x512",
    show_default=True,
    metavar="HxW",
    help="Of the image it is traced with.",
)
@click.option("--check", "checks", is_flag=True, help="Run the file too, and compare it with the net.")
def command(path: str, out: Path, size: tuple[int, int], checks: bool) -> None:
    """Export a checkpoint to a file that runs without segrail.

    \b
    model.onnx    ONNX, for onnxruntime, TensorRT, OpenVINO...; classes and palette are in its metadata
    model.pt2     torch.export; torch.export.load(...).module()
    model.ts      TorchScript; torch.jit.load(...); fixed to --size

    The file takes plain images, uint8 [N, 3, H, W] in RGB, and gives logits [N, classes, H, W]; it normalises by
    itself. ONNX and .pt2 take any batch, height and width.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the ending says the format{nearest(out.suffix, FORMATS)}")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: folder {out.parent} does not exist: make it, or name another")
    state = checkpoint.load_net(path)
    facts = state["dataset"]
    net = model.from_checkpoint(state)
    export(net, out, facts, size)
    sizes = "any size" if out.suffix != ".ts" else f"{size[0]}x{size[1]}"
    click.echo(
        f"{out}: {state['config']['net']['name']}, {len(facts['classes'])} classes of {facts['name']}, images uint8 "
        f"[N, {facts['channels']}, H, W] of {sizes}, {out.stat().st_size / 1e6:.1f} MB"
    )
    if checks:
        click.echo(check(net, out, facts["channels"], size))


if __name__ == "__main__":
    run(command, "python -m train.export")
