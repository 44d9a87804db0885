"""Files of weights that no segrail run wrote, for `train.init_from`: torchvision's, segmentation_models.pytorch's, ours
saved plainly by torch.save(net.state_dict(), FILE)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import nets
from ingest.errors import UserError
from nets import peer_names
from nets.encoders import weights as files
from nets.encoders.pretrained import statistics
from nets.net import find_encoder
from train.checkpoints.state import Tensors


@dataclass(frozen=True)
class PeerFile:
    """What such a file holds."""

    title: str
    """Whose net it is, in words."""
    net: str | None
    """Our name of it; None: not known."""
    weights: Tensors
    """By a Segmenter's names."""
    from_library: bool
    """Trained on images normalized as ImageNet's encoders want them, which the file does not say."""


def is_ours(path: Path) -> bool:
    """Whether it is to be read as a checkpoint of a run: all that is no plain file of tensors, damaged ones too."""
    if not path.is_file():
        return True
    if path.suffix == ".safetensors":
        return False
    for mmap in (True, False):  # quick; and files of older torch, which cannot be mapped
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception:  # what reads a damaged file stumbles in any way
            continue
        return not isinstance(content, dict) or "format" in content
    return True


def read(path: Path, net: str, source: str) -> PeerFile:
    """source: train.init_from. net: the recipe's. UserError where the file is no state dict."""
    try:
        tensors = files.read(str(path))
    except nets.NetError as error:
        raise UserError(f"train.init_from = {source!r}: {error}") from error
    tensors = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in tensors.items()}
    peer = peer_names.recognize(tensors, net)
    if peer is not None:
        renamed = {f"net.{name}": value for name, value in peer.rename(tensors).items()}
        return PeerFile(peer.title, peer.net, renamed, from_library=True)
    whole = any(name.startswith("net.") for name in tensors)  # else of the net without its normalization
    return PeerFile(
        "a plain state dict", None, tensors if whole else {f"net.{k}": v for k, v in tensors.items()}, False
    )


def with_statistics(found: PeerFile, net: nets.Segmenter) -> Tensors:
    """The file's weights, and the mean and std that its net was trained with, as far as known."""
    model = getattr(find_encoder(net), "model", None)
    if not found.from_library or not hasattr(model, "pretrained_cfg"):
        return found.weights
    mean, std = statistics(model, net.mean.numel())
    return {"mean": torch.tensor(mean), "std": torch.tensor(std), **found.weights}
