"""A trained net as one file that needs no segrail: ONNX, torch.export's .pt2, or TorchScript's .ts.

python -m train.export --checkpoint saved/x/y/checkpoints/best.pt --out model.onnx --check

What goes in are plain images, uint8 [N, C, H, W] in RGB, normalised inside; what comes out are logits, float32
[N, K, H, W] at the images' size: argmax over K gives class ids. ONNX and .pt2 take any batch, height and width;
TorchScript is traced, and takes the one height and width that it is traced with.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ingest.errors import UserError, nearest

FORMATS = (".onnx", ".pt2", ".ts")
INPUT, OUTPUT = "images", "logits"


def export(net: nn.Module, path: Path, facts: Mapping[str, Any], size: tuple[int, int] = (512, 512)) -> None:
    """Writes `net` (uint8 images [N,C,H,W] -> logits, in eval mode on the CPU) to path; its ending is the format.

    facts: `checkpoints.state.DatasetFacts`, kept in the file as JSON (ONNX: metadata_props; .pt2, .ts: the extra file
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


def _onnx(net: nn.Module, example: Tensor, facts: Mapping[str, Any], path: Path) -> None:
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


def photos(channels: int, size: tuple[int, int], batch: int = 1) -> Tensor:
    """Smooth noise, uint8 [batch, channels, height, width]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, channels, 8, 8, generator=generator)
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
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
