"""Segmentation nets: `nets.build(name, num_classes=..., backbone=...)`."""

from nets.errors import NetError
from nets.net import Logits, Net, parameter_groups
from nets.pretrained import pretrained_statistics
from nets.registry import build, list_nets, options
from nets.segmenter import Segmenter

__all__ = [
    "Logits",
    "Net",
    "NetError",
    "Segmenter",
    "build",
    "list_nets",
    "options",
    "parameter_groups",
    "pretrained_statistics",
]
