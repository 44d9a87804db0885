"""Nets by name: `build("pspnet", num_classes=21, backbone="resnet50")`."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from nets.errors import NetError, nearest

if TYPE_CHECKING:
    from nets.net import Net

# A net's name is that of its file and of the builder in it: num_classes, then its options as keyword arguments.
# Files are imported when they are used: names can be listed and checked without torch.
NAMES = ("deeplabv3plus", "duc", "enet", "fcn", "gcn", "pspnet", "segnet", "unet", "upernet")


def list_nets() -> list[str]:
    """The names that `build` knows, sorted."""
    return sorted(NAMES)


def options(name: str) -> dict[str, object]:
    """What the net of that name can be asked for beside num_classes, with the defaults."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def paper(name: str) -> str:
    """The net's paper: the first line of its file's docstring, up to the reference's closing bracket."""
    first = (importlib.import_module(f"nets.{name}").__doc__ or "").splitlines()[0]
    found = re.match(r"(.*\))", first)
    return found[1] if found else first


def describe(name: str) -> str:
    """The docstring of the net's builder: what its options mean."""
    return inspect.getdoc(_builder(name)) or ""


def build(
    name: str,
    num_classes: int,
    *,
    backbone: str | None = None,
    pretrained: bool = False,
    in_channels: int = 3,
    output_stride: int | None = None,
    aux: bool = False,
    **net_options: object,
) -> Net:
    """The net of that name, freshly initialised.

    backbone: a timm encoder; None is the net's own default. pretrained: the encoder's weights from timm's hub
    (`backbone_weights=FILE` where there is no connection). output_stride: the encoder's, None for the net's default.
    aux: an auxiliary head, in training only. net_options: keyword arguments of the net's own builder, e.g.
    `separable=True` for deeplabv3plus; each is checked against its signature.

    Raises NetError for an unknown name or option, or for one that the net does not have.
    """
    builder = _builder(name)
    known = options(name)
    if num_classes < 1:
        raise NetError(f"num_classes is {num_classes}: expected 1 or more")
    asked: dict[str, object] = {"in_channels": in_channels}
    # left at their defaults these ask for nothing, so that nets without them can be built by the same call
    asked |= {"backbone": backbone} if backbone is not None else {}
    asked |= {"output_stride": output_stride} if output_stride is not None else {}
    asked |= {"pretrained": True} if pretrained else {}
    asked |= {"aux": True} if aux else {}
    asked |= net_options
    for option in asked:
        if option not in known:
            raise NetError(f"{name} has no option {option!r}{nearest(option, known)}")
    net = builder(num_classes, **asked)
    if str(asked.get("backbone", "")).startswith("hrnet"):
        from nets.unused import freeze_unused  # here: it imports torch

        freeze_unused(net, in_channels)
    return net


def _builder(name: str) -> Callable[..., Net]:
    if name not in NAMES:
        raise NetError(f"there is no net {name!r}{nearest(name, list_nets())}")
    builder: Callable[..., Net] = getattr(importlib.import_module(f"nets.{name}"), name)
    return builder
