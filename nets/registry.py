"""Nets by name: `build("pspnet", num_classes=21, backbone="resnet50")`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nets.errors import NetError, nearest

if TYPE_CHECKING:
    from nets.net import Net

# A net's name is that of its file and of the builder in it: num_classes, then perhaps the encoder's options in one
# argument, then its own as keyword arguments. Files are imported when they are used: names can be listed and checked
# without torch.
NAMES = ("deeplabv3plus", "duc", "enet", "fcn", "gcn", "linear", "pspnet", "segnet", "unet", "upernet")

# Every net can be asked for these, with one call: at None or False they ask for nothing, also where a net has no such
# option.
COMMON = ("backbone", "pretrained", "backbone_weights", "in_channels", "output_stride", "aux")
_ENCODERS = ("backbone", "pretrained", "backbone_weights", "output_stride")  # those about an encoder

# What a net was before it had an option, where that is not the option's default now: older checkpoints do not record
# the option, and hold weights of that net.
BEFORE: dict[str, dict[str, object]] = {
    "deeplabv3plus": {"separable_norm": False},
    "duc": {"aspp": False},
    "upernet": {"norms": False},
}


def list_nets() -> list[str]:
    """The names that `build` knows, sorted."""
    return sorted(NAMES)


def list_peers() -> list[str]:
    """`smp:NAME` of each net that segmentation_models.pytorch adds, where it is installed."""
    from nets import smp  # here: it imports torch

    return smp.names()


def options(name: str) -> dict[str, object]:
    """What the net of that name can be asked for beside num_classes, with the defaults."""
    builder = _builder(name)
    encoder = _encoder_default(builder)
    shared = {} if encoder is None else {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder)}
    own = inspect.signature(builder).parameters.values()
    return shared | {p.name: p.default for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY}


def paper(name: str) -> str:
    """The net's paper: the first line of its file's docstring, up to the reference's closing bracket."""
    if name.startswith("smp:"):
        return "segmentation_models.pytorch's"
    first = (importlib.import_module(f"nets.{name}").__doc__ or "").splitlines()[0]
    found = re.match(r"(.*\))", first)
    return found[1] if found else first


def describe(name: str) -> str:
    """The docstring of the net's builder: what its options mean."""
    return inspect.getdoc(_builder(name)) or ""


def build(name: str, num_classes: int, **asked: object) -> Net:
    """The net of that name, freshly initialized.

    asked: the options of `options(name)`, each checked against it. Most nets know

    - backbone: a timm encoder; None is the net's own default
    - pretrained: the encoder's weights from timm's hub; backbone_weights: from a file, where there is no connection
    - in_channels: of the images, 3 by default
    - output_stride: the encoder's, None for the net's default
    - aux: an auxiliary head, in training only

    and some have more, such as `separable=True` for deeplabv3plus. `smp:NAME` is a net of
    segmentation_models.pytorch, which must be installed. Raises NetError for an unknown name or option, or
    for one that the net does not have.
    """
    builder = _builder(name)
    known = options(name)
    if num_classes < 1:
        raise NetError(f"num_classes is {num_classes}: expected 1 or more")
    given = {key: value for key, value in asked.items() if not (key in COMMON and _nothing(value))}
    for option in given:
        if option not in known:
            bare = option in _ENCODERS and "backbone" not in known
            why = ", since it has no encoder to choose: leave it out" if bare else ""
            raise NetError(f"{name} has no option {option!r}{why}{nearest(option, known)}")
        if option not in COMMON:
            _check_kind(name, option, given[option], known[option])
    net = _call(builder, num_classes, given)
    if _may_be_idle(name, net, str(given.get("backbone"))):
        from nets.unused import freeze_unused  # here: it imports torch

        freeze_unused(net, int(str(given.get("in_channels", 3))))
    return net


def all_options(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The net's own options (those not in COMMON), asked for or not: for a checkpoint to record.

    They are then the same net when a later release has other defaults.
    """
    return {key: value for key, value in options(name).items() if key not in COMMON} | dict(asked)


def recorded_options(name: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a checkpoint's weights were trained with, from those that it records (see BEFORE)."""
    return BEFORE.get(name, {}) | dict(recorded)


def _check_kind(name: str, option: str, value: object, default: object) -> None:
    """NetError where a net's own option is no text, number or switch, as its default is."""
    for kind, expected in ((str, "text"), (bool, "true or false"), (int, "a whole number")):
        if type(default) is kind and type(value) is not kind:
            raise NetError(f"{name}'s option {option} = {str(value)[:80]!r}: expected {expected}, such as {default!r}")


def _may_be_idle(name: str, net: Net, backbone: str) -> bool:
    """Whether the net may not read all that its encoder computes."""
    has_pyramid = getattr(getattr(net, "encoder", None), "pyramid", None) is not None
    return backbone.startswith("hrnet") or has_pyramid or name.startswith("smp:")


def _nothing(value: object) -> bool:
    return value is None or value is False


def _call(builder: Callable[..., Net], num_classes: int, given: Mapping[str, object]) -> Net:
    encoder = _encoder_default(builder)
    if encoder is None:
        return builder(num_classes, **given)
    shared = {f.name for f in dataclasses.fields(encoder)}
    chosen = dataclasses.replace(encoder, **{key: value for key, value in given.items() if key in shared})
    return builder(num_classes, chosen, **{key: value for key, value in given.items() if key not in shared})


def _encoder_default(builder: Callable[..., Net]) -> Any:
    """The builder's default EncoderOptions, None for a net without an encoder of its own choice."""
    parameter = inspect.signature(builder).parameters.get("encoder")
    return None if parameter is None else parameter.default


def _builder(name: str) -> Callable[..., Net]:
    if name.startswith("smp:"):
        from nets import smp  # here: it imports torch

        return smp.builder(name)
    if name not in NAMES:
        raise NetError(f"there is no net {name!r}{nearest(name, list_nets())}")
    builder: Callable[..., Net] = getattr(importlib.import_module(f"nets.{name}"), name)
    return builder
