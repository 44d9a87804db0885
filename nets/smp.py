"""Nets of segmentation_models.pytorch under our contract: `smp:unetplusplus`, `smp:dpt`, `smp:segformer` and more.

Each is that library's own net, final upsampling included, over a timm encoder. The library is an extra, imported when
such a net is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nets.encoders import EncoderOptions
from nets.encoders.pretrained import create_timm, statistics
from nets.encoders.weights import first_line, fit
from nets.errors import NetError, nearest
from nets.net import Net

PREFIX = "smp:"
PACKAGE = "segmentation_models_pytorch"

# What is said by our own keys, or would change what comes out.
_NOT_OPTIONS = {
    *("encoder_name", "encoder_weights", "encoder_depth", "in_channels", "classes"),
    *("activation", "aux_params", "upsampling", "kwargs"),
}
_KEYWORD, _BOTH = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD


def names() -> list[str]:
    """`smp:NAME` of each of the library's nets, sorted; none where it is not installed."""
    return sorted(f"{PREFIX}{name}" for name in _classes()) if _installed() else []


def builder(name: str) -> Callable[..., Net]:
    """The builder of `smp:NAME`, as those of our own nets: its keyword arguments are the net's options.

    NetError where the library is not installed or has no such net.
    """
    if not _installed():
        raise NetError(f"net {name!r} is segmentation_models.pytorch's, which is not here: pip install 'segrail[smp]'")
    known, arch = _classes(), name.removeprefix(PREFIX)
    if arch not in known:
        raise NetError(f"segmentation_models.pytorch has no net {arch!r}{nearest(arch, known)}")
    make = known[arch]

    def build(num_classes: int, encoder: EncoderOptions, **options: object) -> Net:
        return PeerNet(make, num_classes, encoder, options)

    encoder = EncoderOptions("vit_base_patch16_224" if arch == "dpt" else "resnet34")  # the library's own defaults
    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("num_classes", _BOTH),
            inspect.Parameter("encoder", _BOTH, default=encoder),
            *(p.replace(kind=_KEYWORD) for p in _own(make)),
        ]
    )
    build.__doc__ = (
        f"segmentation_models.pytorch's {make.__name__} with its own options, over the encoders of timm that it takes."
    )
    return build


class PeerNet(Net):
    """One of that library's nets (`model`), with images padded to what it takes."""

    def __init__(
        self,
        make: Callable[..., nn.Module],
        num_classes: int,
        encoder: EncoderOptions,
        options: Mapping[str, object],
    ) -> None:
        super().__init__()
        asked = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
        if make.__name__ == "DPT":
            asked["dynamic_img_size"] = True  # else images of the pretraining's size only
        try:
            self.model: Any = make(
                f"tu-{encoder.backbone}",
                encoder_weights=None,
                in_channels=encoder.in_channels,
                classes=num_classes,
                **asked,
            )
            if make.__name__ == "DPT":
                self.encoder.model.reset_classifier(0, "")
            self.stride = _stride(make, self.encoder)
            self._check(encoder.in_channels)
        except NetError:
            raise
        except Exception as error:  # the library and timm raise whatever comes
            raise NetError(
                f"segmentation_models.pytorch cannot make {make.__name__} over {encoder.backbone!r} "
                f"({first_line(error)}): choose another backbone or other options"
            ) from error
        self._fill(encoder)

    @property
    def encoder(self) -> Any:
        """The library's module around timm's model, with `loaded` and `statistics` as our own encoders have them."""
        return self.model.encoder

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        return self.model(images), None

    def _check(self, in_channels: int) -> None:
        """Runs a small image through: encoders of one size fail here, not in training."""
        device = next(self.parameters()).device
        self.eval()
        with torch.no_grad():
            self(torch.zeros(1, in_channels, 2 * self.stride, 3 * self.stride, device=device))
        self.train()

    def _fill(self, encoder: EncoderOptions) -> None:
        """Loads the encoder's weights, as any net's: from timm's hub or a file, whole or not at all."""
        name, inner = str(encoder.backbone), self.encoder
        inner.loaded = inner.statistics = None
        if encoder.source is False:
            return
        whole = create_timm(name, {"in_chans": encoder.in_channels}, encoder.source)
        found = fit(whole.state_dict(), name, inner.model)
        if found.missing or found.misshapen:
            raise NetError(
                f"the weights of {name!r} have no {[*found.missing, *found.misshapen][0]}: choose another encoder"
            )
        inner.model.load_state_dict(found.tensors | found.kept)
        inner.loaded, inner.statistics = whole.loaded, statistics(whole, encoder.in_channels)


def _stride(make: Callable[..., nn.Module], encoder: Any) -> int:
    """What sides must be multiples of: 32; two of a ViT's patches in DPT, which also halves them; PAN pools thrice more
    after stride 16."""
    if make.__name__ == "DPT":
        return 2 * int(encoder.output_stride)
    return 128 if make.__name__ == "PAN" else 32


def _own(make: Callable[..., nn.Module]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(make).parameters.values() if p.name not in _NOT_OPTIONS]


def _classes() -> dict[str, Callable[..., nn.Module]]:
    found: dict[str, Callable[..., nn.Module]] = importlib.import_module(PACKAGE).MODEL_ARCHITECTURES_MAPPING
    return found


def _installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None
