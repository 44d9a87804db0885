"""`train.init_from`: a net that starts from a checkpoint's weights, trained on other classes perhaps, or other bands.

What fits by name and shape is taken. Of what depends on the classes, the parts of classes that both have, by name, are
taken; those of new classes start anew. Of another net the encoder alone is taken, which must fit whole. Files of other
libraries, or of a plain state dict, name no classes: what depends on them is taken where there are as many.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import nets
from ingest.errors import UserError
from nets.net import find_encoder
from train import model
from train.checkpoints import checkpoint, peer
from train.checkpoints.state import DatasetFacts, State, Tensors
from train.config import NetConfig

_SHOWN = 6  # names in a list


@dataclass
class _Taken:
    """What was found of the net's tensors."""

    weights: Tensors = field(default_factory=dict)
    anew: list[str] = field(default_factory=list)
    """Names of those that start anew."""


def begin(config: NetConfig, facts: DatasetFacts, source: str) -> tuple[nets.Segmenter, str]:
    """`build`, or `build_of_file`, by what `train.init_from` (source) holds."""
    path = checkpoint.in_folder(Path(source))
    if peer.is_ours(path):
        return build(config, facts, checkpoint.load_net(source), source)
    return build_of_file(config, facts, peer.read(path, config.name, source), source)


def build_of_file(
    config: NetConfig, facts: DatasetFacts, file: peer.PeerFile, source: str
) -> tuple[nets.Segmenter, str]:
    """The recipe's net with the weights of a file that no run wrote; and a line of what was taken and what was not.

    UserError as `build`.
    """
    plain = _without_weights(config)
    net = model.build(plain, facts)
    config.options = plain.options
    encoder = _encoder_prefix(net)
    weights = peer.with_statistics(file, net)
    same_net = file.net in (None, config.name)
    if not same_net:
        weights = {
            name: value for name, value in weights.items() if name.startswith((encoder or "none", "mean", "std"))
        }
    mine = net.state_dict()
    found = _Taken({name: weights[name] for name, value in mine.items() if _fits(weights.get(name), value)})
    found.anew = [name for name in mine if name not in found.weights]
    if not any(name in mine for name in weights if name not in ("mean", "std")):
        raise UserError(
            f"train.init_from = {source!r} ({file.title}: {_some(list(file.weights)[:2])}, ...): none of its weights "
            f"fit {config.name}; an encoder's alone go into net.backbone_weights"
        )
    _refuse_others(net, weights, found, encoder, source)
    net.load_state_dict(mine | found.weights)
    left = [name for name in file.weights if name not in found.weights]
    text = f"started from {source} ({file.title}): {len(found.weights)} of {len(mine)} tensors"
    if found.anew:
        text += f", anew: {_some(found.anew)}"
    if left:
        text += f"; not taken of the file: {_some(left)}"
    return net, f"{text}; it names no classes"


def build(config: NetConfig, facts: DatasetFacts, state: State, source: str) -> tuple[nets.Segmenter, str]:
    """The recipe's net with the weights of `state`, averaged where it holds averages; and a line of what was taken.

    source: the checkpoint's path. Nothing else is loaded, also where the recipe is pretrained. UserError where the
    encoder is another one, or nothing fits.
    """
    was = str(state["config"].get("net", {}).get("name", NetConfig.name))
    plain = _without_weights(config)
    net = model.build(plain, facts, state)
    config.options = plain.options
    averages = state.get("ema")
    weights = {**state["model"], **(averages["average"] if averages else {})}
    encoder = _encoder_prefix(net)
    same_net = was == config.name
    if not same_net and not encoder:
        raise UserError(
            f"train.init_from = {source!r} is a {was}, and {config.name} has no separate encoder to take from "
            f"it: use a {config.name}'s checkpoint"
        )
    if not same_net:
        weights = {name: value for name, value in weights.items() if name.startswith((encoder, "mean", "std"))}
    taken = _taken(net, plain, facts, state["dataset"], weights)
    _refuse_others(net, weights, taken, encoder, source)
    net.load_state_dict(net.state_dict() | taken.weights)
    return net, _line(taken, facts, state, source, same_net)


def _without_weights(config: NetConfig) -> NetConfig:
    plain = copy.deepcopy(config)
    plain.pretrained, plain.backbone_weights = False, None
    return plain


def _encoder_prefix(net: nets.Segmenter) -> str:
    """What the names of the encoder's weights begin with; "" where there is none."""
    encoder = find_encoder(net)
    return next((f"{name}." for name, module in net.named_modules() if module is encoder), "") if encoder else ""


def _fits(value: torch.Tensor | None, mine: torch.Tensor) -> bool:
    return value is not None and value.shape == mine.shape


def _taken(
    net: nets.Segmenter, config: NetConfig, facts: DatasetFacts, before: DatasetFacts, weights: Tensors
) -> _Taken:
    ours, theirs = facts["classes"], before["classes"]
    both = [name for name in ours if name in theirs]
    rows = torch.tensor([ours.index(name) for name in both]), torch.tensor([theirs.index(name) for name in both])
    # With one class more, the dimensions that grow are those of classes.
    more = DatasetFacts(**{**facts, "classes": [*ours, "one more"]})
    with torch.device("meta"):
        wider = model.build(copy.deepcopy(config), more).state_dict()
    found = _Taken()
    for name, mine in net.state_dict().items():
        growing = [dim for dim, (a, b) in enumerate(zip(mine.shape, wider[name].shape, strict=True)) if a != b]
        value = weights.get(name)
        if value is not None and growing:
            value = _by_class(mine, value, growing, (len(ours), len(theirs)), rows)
        if value is None or value.shape != mine.shape:
            found.anew.append(name)
        else:
            found.weights[name] = value
    return found


def _by_class(
    mine: torch.Tensor,
    value: torch.Tensor,
    growing: Sequence[int],
    counts: tuple[int, int],
    rows: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor | None:
    """`mine` with the parts that `value` has of the same classes; None where it does not fit, or there are none.

    growing: dimensions that hold the classes, each class so many entries next to each other. counts: classes here and
    there. rows: the common classes' ids here and there.
    """
    each = {dim: mine.shape[dim] // counts[0] for dim in growing}
    shape = [size if dim not in each else each[dim] * counts[1] for dim, size in enumerate(mine.shape)]
    if list(value.shape) != shape or not len(rows[0]):
        return None
    result, part = mine.clone(), value
    here: list[torch.Tensor] = [torch.arange(size) for size in mine.shape]
    for dim, width in each.items():
        entries = [(ids.view(-1, 1) * width + torch.arange(width)).flatten() for ids in rows]
        here[dim] = entries[0]
        part = part.index_select(dim, entries[1])
    result[torch.meshgrid(*here, indexing="ij")] = part.to(result)
    return result


def _refuse_others(net: nets.Segmenter, weights: Tensors, taken: _Taken, encoder: str, source: str) -> None:
    """UserError where the encoder does not fit whole (but for the bands of its first layer), or nothing does."""
    mine = net.state_dict()
    first = next((name for name in mine if encoder and name.startswith(encoder) and mine[name].ndim == 4), None)
    for name in taken.anew:
        there = tuple(weights[name].shape) if name in weights else "absent"
        bands = name == first and name in weights and _but_bands(weights[name]) == _but_bands(mine[name])
        if encoder and name.startswith(encoder) and not bands:
            raise UserError(
                f"train.init_from = {source!r}: its encoder is another one ({name} is {there} there, "
                f"{tuple(mine[name].shape)} here): set net.backbone to the checkpoint's, or leave train.init_from out"
            )
    extra = next((name for name in weights if encoder and name.startswith(encoder) and name not in mine), None)
    if extra is not None:  # ResNet-34 has all of ResNet-18's names, and more
        there = tuple(weights[extra].shape)
        raise UserError(
            f"train.init_from = {source!r}: its encoder is another one ({extra} is {there} there, absent here): "
            "set net.backbone to the checkpoint's, or leave train.init_from out"
        )
    if not any(name not in ("mean", "std") for name in taken.weights):
        raise UserError(f"train.init_from = {source!r}: none of its weights fit this net; leave train.init_from out")


def _but_bands(weight: torch.Tensor) -> list[int]:
    return [size for dim, size in enumerate(weight.shape) if dim != 1]


def _line(taken: _Taken, facts: DatasetFacts, state: State, source: str, same_net: bool) -> str:
    whole = len(taken.weights) + len(taken.anew)
    trained = f"{state['config']['net']['name']} on {state['dataset']['name']}, step {state['step']}"
    text = f"started from {source} ({trained}): {len(taken.weights)} of {whole} tensors"
    if not same_net:
        return f"{text}, the encoder's; the rest starts anew"
    if taken.anew:
        text += f", anew: {_some(taken.anew)}"
    theirs = state["dataset"]["classes"]
    new = [name for name in facts["classes"] if name not in theirs]
    kept = [name for name in facts["classes"] if name in theirs]
    if not new:
        return f"{text}; all {len(kept)} classes are known"
    return f"{text}; classes known: {_some(kept) or 'none'}; new: {_some(new)}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
