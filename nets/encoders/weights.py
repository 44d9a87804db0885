"""Files of pretrained weights: read, unwrapped, and compared with an encoder tensor by tensor.

timm itself loads such a file leniently: whatever does not fit is logged and stays random. Here nothing of the encoder
may be missing, and nothing may be left over but the classifier.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from nets.errors import NetError

# where training scripts put the weights in what they save; averaged weights first, as timm prefers them
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
# what wrappers (DistributedDataParallel, torch.compile, a net around its encoder) put before the names
WRAPPERS = ("module", "_orig_mod", "net", "model", "backbone", "encoder")
# by which names timm's modules keep the functions that rename the tensors of original or older releases
FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


@dataclass
class Fit:
    """What of a file fits an encoder. `tensors` bear the encoder's names; the lists hold names, for messages."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)  # with both shapes
    kept: dict[str, Tensor] = field(default_factory=dict)  # the model's own: counters that old files lack, a classifier
    left_over: int = 0  # of the classifier, and of what stands beside a wrapped encoder

    @property
    def whole(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)


def read(file: str) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file by name, out of the usual containers.

    Raises NetError for a file that is missing, cannot be read as weights or holds none.
    """
    if not os.path.isfile(file):
        raise NetError(f"{file!r} is no file: give a .pth or .safetensors file of weights")
    try:
        if file.endswith(".safetensors"):
            return dict(safetensors.torch.load_file(file))
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training checkpoints hold one
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged, of another format, with objects in it: each raises something else
        raise NetError(f"{file!r} cannot be read as weights ({first_line(error)})") from error
    for _ in CONTAINERS:  # one in another, too
        if isinstance(content, dict):
            content = next((content[key] for key in CONTAINERS if isinstance(content.get(key), dict)), content)
    items = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise NetError(f"{file!r} holds no tensors by name: give a state dict, as torch.save(model.state_dict(), FILE)")
    return tensors


def fit(tensors: dict[str, Tensor], name: str, model: nn.Module) -> Fit:
    """Compares a file's tensors with `model`, timm's model or encoder of that name; loads nothing.

    Of the wrappers that occur before the names, those are stripped that let the most tensors fit. Names of older
    releases are brought up to date by timm's own filter for that architecture; the first convolution is adapted to
    the model's input channels.
    """
    with torch.device("meta"):
        whole = timm.create_model(name.split(".")[0])
    home = sys.modules[type(whole).__module__]
    update = next((getattr(home, filter_name) for filter_name in FILTERS if hasattr(home, filter_name)), None)
    best: Fit | None = None
    for prefix in _prefixes(tensors):
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        found = _compare(_updated(inside, update, whole), model, whole)
        found.left_over += len(tensors) - len(inside)
        if best is None or len(found.tensors) > len(best.tensors):
            best = found
    assert best is not None  # the empty prefix always occurs
    return best


def refusal(found: Fit) -> str:
    """Why a file does not fit: how many tensors do, and the first three of each kind that do not."""
    total = len(found.tensors) + len(found.missing) + len(found.misshapen)
    kinds = (
        ("missing", found.missing),
        ("of another shape", found.misshapen),
        ("not the encoder's", found.unexpected),
    )
    listed = [f"{kind}: {_first_three(names)}" for kind, names in kinds if names]
    return f"{len(found.tensors)} of the encoder's {total} tensors fit; {'; '.join(listed)}"


def first_line(error: BaseException) -> str:
    """An error's first line, short enough to stand in another."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "..."


def _prefixes(tensors: Iterable[str]) -> list[str]:
    """Every run of wrappers that some name begins with, the empty one first."""
    found = {"": None}
    for key in tensors:
        prefix = ""
        for part in key.split(".")[:-1]:
            if part not in WRAPPERS:
                break
            prefix += f"{part}."
            found[prefix] = None
    return list(found)


def _updated(tensors: dict[str, Tensor], update: Callable[..., Any] | None, whole: nn.Module) -> dict[str, Tensor]:
    if update is None:
        return tensors
    try:
        takes_model = len(inspect.signature(update).parameters) > 1
        return dict(update(dict(tensors), whole) if takes_model else update(dict(tensors)))
    except Exception:  # the filters index what they expect: then this is something else, and is compared as it is
        return tensors


def _compare(tensors: dict[str, Tensor], model: nn.Module, whole: nn.Module) -> Fit:
    config: dict[str, Any] = getattr(whole, "pretrained_cfg", {})
    first_convs = {_plain(f"{name}.weight") for name in _names(config.get("first_conv"))}
    classifiers = tuple(f"{_plain(name)}." for name in _names(config.get("classifier")))
    given = {_plain(key): value for key, value in tensors.items()}
    wanted = {_plain(key.removeprefix("model.")): (key, value) for key, value in model.state_dict().items()}
    known = {_plain(key) for key in whole.state_dict()} | set(wanted)
    found = Fit(unexpected=[key for key in tensors if _plain(key) not in known])
    found.left_over = sum(key in known and key not in wanted for key in given)
    for plain, (key, target) in wanted.items():
        source = given.get(plain)
        if source is not None and plain in first_convs:
            source = _adapted(source, target)
        if source is not None and source.shape == target.shape:
            found.tensors[key] = source
        elif plain.endswith("num.batches.tracked") or plain.startswith(classifiers):
            found.kept[key] = target
        elif source is None:
            found.missing.append(key)
        else:
            found.misshapen.append(f"{key} {tuple(source.shape)} in the file, {tuple(target.shape)} in the encoder")
    return found


def _adapted(weight: Tensor, target: Tensor) -> Tensor:
    """A first convolution for RGB, brought to the target's channels: summed for one, repeated and scaled for others."""
    if weight.ndim != 4 or weight.shape[1] != 3 or target.shape[1] == 3:
        return weight
    adapted: Tensor = timm.models.adapt_input_conv(target.shape[1], weight)
    return adapted


def _plain(key: str) -> str:
    """timm's feature extractors write stages_0 for stages.0."""
    return key.replace("_", ".")


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _first_three(names: list[str]) -> str:
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
