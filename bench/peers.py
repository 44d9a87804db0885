"""Nets of other libraries beside ours: same name, same encoder, same number of classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import nets


@dataclass(frozen=True)
class Contender:
    """A net to be measured. `make` may only be called in the process that measures."""

    net: str  # ours it stands beside
    library: str  # "segrail", "torchvision" or "smp"
    note: str  # encoder, and what differs in design
    options: dict[str, Any]  # for the library's own builder

    def make(self, classes: int) -> nn.Module:
        """A fresh net that returns a tensor in eval and in training."""
        return _Single(_MAKERS[self.library](self.net, classes, self.options))


def contenders(names: list[str]) -> list[Contender]:
    """Ours of these names as built by default, and beside each pair of equal encoder the installed peers.

    smp is segmentation_models.pytorch (extra `peers`).
    """
    chosen = []
    for name in names:
        chosen.append(Contender(name, "segrail", str(nets.options(name).get("backbone") or "its own encoder"), {}))
        chosen += [c for c in _PAIRS if c.net == name and _installed(c.library)]
    return chosen


_R50 = {"backbone": "resnet50"}
_PAIRS = [
    Contender("fcn", "segrail", "resnet50, stride 8", {**_R50, "output_stride": 8, "skips": 0, "aux": True}),
    Contender("fcn", "torchvision", "resnet50, stride 8", {"aux_loss": True}),
    Contender("unet", "segrail", "resnet50", _R50),
    Contender("unet", "smp", "resnet50", {"arch": "Unet"}),
    Contender("deeplabv3plus", "smp", "resnet50, separable, stride 16", {"arch": "DeepLabV3Plus"}),
    Contender("deeplabv3plus", "segrail", "resnet50, separable, stride 16", {**_R50, "separable": True}),
    Contender("pspnet", "smp", "resnet50 up to res3", {"arch": "PSPNet"}),
    Contender("upernet", "segrail", "resnet50, 256 channels", {**_R50, "channels": 256}),
    Contender("upernet", "smp", "resnet50, 256 channels, layer norms", {"arch": "UPerNet"}),
]


_LIKE_SMPS = {**_R50, "channels": 256, "norms": True}
_SMPS_SEPARABLE = {**_R50, "separable": True, "separable_norm": False}
_SAME_DESIGN = [
    (_PAIRS[0], _PAIRS[1]),
    (_PAIRS[2], _PAIRS[3]),
    # nearly: ours has its second separable convolution in the decoder, theirs behind ASPP
    (Contender("deeplabv3plus", "segrail", "resnet50, separable, no norm between", _SMPS_SEPARABLE), _PAIRS[4]),
    (Contender("upernet", "segrail", "resnet50, 256 channels, layer norms", _LIKE_SMPS), _PAIRS[8]),
]


def pairs(names: list[str]) -> list[tuple[Contender, Contender]]:
    """(ours, an installed library's) of these names, of the same design, so that times can be compared."""
    return [(ours, theirs) for ours, theirs in _SAME_DESIGN if ours.net in names and _installed(theirs.library)]


class _Single(nn.Module):
    """Adds up what a net returns in training, so that backward goes through all of it; eval's tensor as it is."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        found = self.net(images)
        if isinstance(found, dict):  # torchvision
            return found["out"] + found["aux"] if self.training and "aux" in found else found["out"]
        if isinstance(found, tuple):
            return found[0] if found[1] is None else found[0] + found[1]
        return found


def _ours(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    return nets.build(name, classes, **options)


def _torchvision(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    from torchvision.models import segmentation

    make: Callable[..., nn.Module] = getattr(segmentation, f"{name}_resnet50")
    return make(weights=None, weights_backbone=None, num_classes=classes, **options)


def _smp(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    import segmentation_models_pytorch as smp

    make: Callable[..., nn.Module] = getattr(smp, options["arch"])
    return make("resnet50", encoder_weights=None, classes=classes)


_MAKERS = {"segrail": _ours, "torchvision": _torchvision, "smp": _smp}


def _installed(library: str) -> bool:
    package = {"smp": "segmentation_models_pytorch", "segrail": "nets"}.get(library, library)
    return importlib.util.find_spec(package) is not None
