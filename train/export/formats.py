"""A trained net as one file that needs no segrail: ONNX, or torch.export's .pt2.

What goes in are plain images, uint8 [N, C, H, W] in RGB, of any batch, height and width, normalized inside. What comes
out are logits, float32 [N, K, H, W] at the images' size, or with `argmax` the class ids themselves, uint8 [N, H, W].

TorchScript is not offered: torch has deprecated it, `torch.jit.trace` fixes one image size, and each place that ran it
runs one of the other two.
"""

from __future__ import annotations

import io
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
from ingest.shards import atomic

FORMATS = (".onnx", ".pt2")
INPUT = "images"


class Shipped(nn.Module):
    """The net as it is exported: logits in float32, or class ids."""

    def __init__(self, net: nn.Module, argmax: bool = False, half: bool = False) -> None:
        """half: weights and arithmetic in float16; the net itself is changed."""
        super().__init__()
        self.net, self.argmax = net.half() if half else net, argmax
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> float32 [N,K,H,W], or uint8 [N,H,W]."""
        logits = self.net(images)
        return logits.argmax(dim=1).to(torch.uint8) if self.argmax else logits.float()

    @property
    def output(self) -> str:
        """The name of what comes out."""
        return "classes" if self.argmax else "logits"


def export(net: Shipped, path: Path, facts: Mapping[str, Any], example: Tensor) -> None:
    """Writes the net, on the CPU, to path; its ending is the format.

    facts: what is kept in the file, as JSON (ONNX: metadata_props; .pt2: the extra file facts.json). example: images
    uint8 [N,C,H,W] that it is traced with. UserError for another ending, or where the exporter is not installed.
    """
    check_ending(path)
    if len(example) == 1:  # torch.export takes a 1 in the example for a constant
        example = torch.cat([example, example])
    dynamic = torch.export.Dim.DYNAMIC
    shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
    with atomic.replacing(path) as partial, torch.no_grad(), quiet():
        if path.suffix == ".onnx":
            _onnx(net, example, facts, partial)
        else:
            program = torch.export.export(net, (example,), dynamic_shapes=shapes)
            written = io.BytesIO()  # by name, torch's writer ends the process where the disk is full
            torch.export.save(program, written, extra_files={"facts.json": json.dumps(dict(facts))})
            with atomic.named(path):
                partial.write_bytes(written.getbuffer())


def check_ending(path: Path) -> None:
    """UserError where the ending is of no format."""
    if path.suffix == ".ts":
        raise UserError(f"--out {path}: TorchScript is deprecated in torch: use .onnx or .pt2, which take any size")
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the ending says the format{nearest(path.suffix, FORMATS)}")


def _onnx(net: Shipped, example: Tensor, facts: Mapping[str, Any], path: Path) -> None:
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
        output_names=[net.output],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(as_text(facts))
    program.save(path, external_data=False)


def as_text(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as ONNX's metadata: names to texts, which are JSON but for those that are texts."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def reader(path: Path) -> Callable[[Tensor], Tensor]:
    """The exported file as a function of uint8 images, run by what is meant to run it. UserError without it."""
    if path.suffix == ".onnx":
        try:
            onnxruntime = import_module("onnxruntime")
        except ImportError as error:
            raise UserError("an ONNX file is checked by onnxruntime: pip install onnxruntime, or --no-check") from error
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {INPUT: images.contiguous().numpy()})[0])
    return torch.export.load(path).module()


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters warn of their own insides, which nobody here can change."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "")]
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
