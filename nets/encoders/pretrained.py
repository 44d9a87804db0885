"""Pretrained weights of timm's models: from the hub, from its cache, or from a file where there is no connection."""

from __future__ import annotations

import os
import socket
import urllib.parse
import urllib.request
from typing import Any

import huggingface_hub
import timm
from torch import nn

from nets.encoders.layouts import remedy
from nets.encoders.weights import first_line, fit, read, refusal
from nets.errors import NetError
from nets.net import find_encoder

# per input channel, 0..1: (mean, std)
Statistics = tuple[list[float], list[float]]


def create_timm(name: str, options: dict[str, Any], pretrained: bool | str | os.PathLike[str]) -> Any:
    """timm.create_model with these options, filled from the hub (pretrained is True) or from a file (its path).

    The file holds timm's own state dict of the model (.pth or .safetensors), bare or in the usual wrappings. The first
    convolution is adapted to `in_chans` (summed for one channel, repeated for more), and the classifier left out. The
    model's `loaded` says in words what it was filled from, None for nothing. Raises NetError when the weights cannot be
    had or do not fit; whatever else goes wrong in timm is passed on.
    """
    if not isinstance(pretrained, bool):
        return _from_file(name, options, os.fspath(pretrained))
    if not pretrained:
        return _told(timm.create_model(name, **options), None)
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise NetError(
            f"timm has no pretrained weights of {name!r}: set pretrained to false, or choose another encoder"
        )
    cached = _cached_file(config.hf_hub_id)
    if cached is not None:
        return _from_file(name, options, cached, of_hub=True)  # the hub is not asked for what is here
    if not _hub_can_be_reached():
        raise _no_connection(name, "the hub cannot be reached from here")
    try:
        return _told(timm.create_model(name, pretrained=True, **options), f"timm's weights of {name}, from the hub")
    except Exception as error:  # the hub's client raises many kinds
        raise _no_connection(name, first_line(error)) from error


def statistics(model: Any, in_channels: int) -> Statistics:
    """Mean and std of the data that timm's weights of this model were trained on."""
    config = model.pretrained_cfg

    def per_channel(values: tuple[float, ...]) -> list[float]:
        # timm sums the RGB filters for one channel and repeats them over more: the statistics follow
        return (
            [sum(values) / len(values)] if in_channels == 1 else [values[i % len(values)] for i in range(in_channels)]
        )

    return per_channel(tuple(config["mean"])), per_channel(tuple(config["std"]))


def pretrained_statistics(net: nn.Module) -> Statistics | None:
    """What a net's images are to be normalized with: (mean, std) if its encoder is pretrained, else None (use the
    dataset's). Each per channel, of images scaled to 0..1."""
    found: Statistics | None = getattr(getattr(net, "encoder", None), "statistics", None)
    return found


def pretrained_source(net: nn.Module) -> str | None:
    """What a net's (or a Segmenter's) encoder was filled from: how many tensors of which file. None without weights."""
    source: str | None = getattr(find_encoder(net), "loaded", None)
    return source


def _from_file(name: str, options: dict[str, Any], file: str, of_hub: bool = False) -> Any:
    """of_hub: timm's own file for that model, which may hold more than the model."""
    if not os.path.isfile(file):
        raise NetError(f"backbone_weights {file!r} is no file: give timm's weights of {name}")
    try:
        tensors = read(file)
    except NetError as error:
        raise NetError(f"backbone_weights {file!r} do not fit {name}: {error}") from error
    model = timm.create_model(name, **options)
    found = fit(tensors, name, model)
    if of_hub:
        found.unexpected.clear()
    if not found.whole:
        raise NetError(f"backbone_weights {file!r} do not fit {name}: {refusal(found)}; {remedy(tensors, file, name)}")
    model.load_state_dict(found.tensors | found.kept)
    rest = f", {found.left_over} of its classifier left over" if found.left_over else ""
    return _told(model, f"{len(found.tensors)} tensors of {file}{rest}")


def _told(model: Any, loaded: str | None) -> Any:
    model.loaded = loaded
    return model


def _cached_file(hub_id: str | None) -> str | None:
    if not hub_id:
        return None
    for filename in ("model.safetensors", "pytorch_model.bin"):
        hit = huggingface_hub.try_to_load_from_cache(hub_id, filename)
        if isinstance(hit, str):
            return hit
    return None


def _hub_can_be_reached() -> bool:
    """False where the hub's name does not resolve: its client would retry, noisily, for most of a minute."""
    if urllib.request.getproxies():
        return True  # the proxy resolves
    try:
        socket.getaddrinfo(urllib.parse.urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _no_connection(name: str, reason: str) -> NetError:
    file = f"{name.split('.')[0]}.pth"
    save = f"torch.save(timm.create_model('{name}', pretrained=True).state_dict(), '{file}')"
    return NetError(
        f"no pretrained weights of {name!r} ({reason}): give backbone_weights={file}, made where there is a connection "
        f'by `python -c "import timm, torch; {save}"`, or set pretrained to false'
    )
