"""Segmentation nets: `nets.build(name, num_classes=..., backbone=...)`.

Each name is imported when it is first used, so that `import nets` alone, and with it every command's --help, does not
wait for torch and timm.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nets.encoders.pretrained import pretrained_source, pretrained_statistics
    from nets.errors import NetError
    from nets.net import Logits, Net, parameter_groups
    from nets.one_image import norm_of_one_value
    from nets.registry import all_options, build, list_nets, list_peers, options, recorded_options
    from nets.segmenter import Segmenter

_HOMES = {
    "Logits": "nets.net",
    "Net": "nets.net",
    "NetError": "nets.errors",
    "Segmenter": "nets.segmenter",
    "all_options": "nets.registry",
    "build": "nets.registry",
    "list_nets": "nets.registry",
    "list_peers": "nets.registry",
    "norm_of_one_value": "nets.one_image",
    "options": "nets.registry",
    "parameter_groups": "nets.net",
    "pretrained_source": "nets.encoders.pretrained",
    "pretrained_statistics": "nets.encoders.pretrained",
    "recorded_options": "nets.registry",
}

__all__ = [
    "Logits",
    "Net",
    "NetError",
    "Segmenter",
    "all_options",
    "build",
    "list_nets",
    "list_peers",
    "norm_of_one_value",
    "options",
    "parameter_groups",
    "pretrained_source",
    "pretrained_statistics",
    "recorded_options",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nets' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use finds it without this function
    return value
