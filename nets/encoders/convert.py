"""`python -m nets weights`: whether a file of weights fits an encoder, and its conversion to timm's names."""

from __future__ import annotations

import os
from pathlib import Path

import timm
import torch

from nets.encoders.encoder import Encoder
from nets.encoders.layouts import recognize
from nets.encoders.weights import first_line, fit, read, refusal
from nets.errors import NetError


def check(file: Path, encoder: str) -> list[str]:
    """What to tell about a file as weights of timm's `encoder`. NetError, naming tensors, where it does not fit."""
    made = Encoder(encoder, pretrained=file)  # the same code, and the same refusal, as in training
    mean, std = made.statistics or ([], [])
    return [
        f"{file} fits {encoder}: {made.loaded}",
        f"normalization: mean {_numbers(mean)}, std {_numbers(std)}, in RGB of 0..1 (timm's for {encoder})",
        f"use it by net.backbone={encoder} net.backbone_weights={file}",
    ]


def convert(file: Path, out: Path) -> list[str]:
    """Writes a checkpoint of a known layout with timm's names, classifier and all; returns what to tell.

    Raises NetError when the layout is not known, or when a tensor has no place or a place no tensor.
    """
    tensors = read(os.fspath(file))
    layout = recognize(tensors)
    if layout is None:
        raise NetError(
            f"{file}: its tensor names ({', '.join(list(tensors)[:3])}, ...) are of no layout that can be converted; "
            "a file with timm's names needs no conversion: check it with --for ENCODER"
        )
    model = timm.create_model(layout.encoder)
    found = fit({layout.rename(name): tensor for name, tensor in tensors.items()}, layout.encoder, model)
    if not found.whole or len(found.tensors) != len(tensors):
        raise NetError(f"{file} does not fit {layout.encoder}: {refusal(found)}; is the file whole?")
    model.load_state_dict(found.tensors | found.kept)
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    try:
        torch.save(model.state_dict(), partial)
        os.replace(partial, out)
    except (OSError, RuntimeError) as error:  # torch raises the latter where there is no folder
        partial.unlink(missing_ok=True)
        raise NetError(f"--out {out} cannot be written ({first_line(error)})") from error
    return [
        f"wrote {out}: {len(found.tensors)} tensors of {layout.title}, by timm's names",
        *check(out, layout.encoder),
    ]


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
