"""Encoders from timm as feature pyramids: any family, any stride it allows, any number of input channels."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from nets.errors import NetError


class Encoder(nn.Module):
    """A timm model that returns its feature maps, finest first.

    name: timm's, with or without the weights' tag ("resnet50", "resnet50.a1_in1k").
    pretrained: fetches timm's weights from the hub; weights: loads them from a file instead (timm's state dict, .pth
    or .safetensors). Either way the first convolution is adapted to in_channels.
    output_stride: the coarsest feature map's; dilates the layers past it. None takes prefer_stride where the model can
    be dilated to it, and else keeps the model's own (mostly 32).

    channels, strides: one per feature map. Raises NetError, naming what would work.
    """

    channels: list[int]
    strides: list[int]

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        output_stride: int | None = None,
        prefer_stride: int | None = None,
        pretrained: bool = False,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        if output_stride is None and prefer_stride is not None and _can_dilate(name, prefer_stride):
            output_stride = prefer_stride
        self.model: Any = _create(name, in_channels, output_stride, pretrained, weights)
        self.channels = [int(c) for c in self.model.feature_info.channels()]
        self.strides = [int(s) for s in self.model.feature_info.reduction()]
        self.channels_last = getattr(self.model, "output_fmt", None) == "NHWC"  # swin and kin
        self._check_pyramid(in_channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [N,C,H,W], sides multiples of the coarsest stride -> features [N, channels[i], H/strides[i], ...]."""
        features: list[Tensor] = self.model(images)
        return [f.permute(0, 3, 1, 2) for f in features] if self.channels_last else list(features)

    def index_of(self, stride: int) -> int:
        """The last (deepest) feature map of that stride. NetError lists the encoder's strides."""
        if stride not in self.strides:
            raise NetError(
                f"encoder {self.name!r} has no feature map of stride {stride}, only {_join(self.strides)}: "
                "choose a hierarchical encoder (resnet50, convnext_tiny, ...)"
            )
        return len(self.strides) - 1 - self.strides[::-1].index(stride)

    @property
    def pad_stride(self) -> int:
        """What the sides of the input must be multiples of."""
        # a dilated encoder's feature maps never get coarser than its output stride; windows are padded inside timm
        return max(self.strides)

    @property
    def mean(self) -> list[float]:
        """Per input channel, 0..1, of the data that timm's weights of this encoder were trained on."""
        return self._statistics("mean")

    @property
    def std(self) -> list[float]:
        """Per input channel, 0..1, as `mean`."""
        return self._statistics("std")

    def _statistics(self, key: str) -> list[float]:
        values = [float(v) for v in self.model.pretrained_cfg[key]]
        count = self.model.in_chans
        # timm repeats the RGB filters over more channels and sums them for one: the statistics follow
        return [sum(values) / len(values)] if count == 1 else [values[i % len(values)] for i in range(count)]

    def _check_pyramid(self, in_channels: int) -> None:
        """Runs a small image through: models with fixed windows or unpadded convolutions fail here, not in training."""
        height, width = 2 * self.pad_stride, 3 * self.pad_stride
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                sizes = [tuple(f.shape[1:]) for f in self(torch.zeros(1, in_channels, height, width))]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise NetError(
                f"encoder {self.name!r} cannot take images of any size ({_first_line(error)}): choose another"
            ) from error
        finally:
            self.train(was_training)
        expected = [(c, height // s, width // s) for c, s in zip(self.channels, self.strides, strict=True)]
        if sizes != expected:
            raise NetError(
                f"encoder {self.name!r} gives feature maps {sizes} for a {height}x{width} image where its strides "
                f"{_join(self.strides)} promise {expected}: choose another"
            )


def _create(
    name: str,
    in_channels: int,
    output_stride: int | None,
    pretrained: bool,
    weights: str | os.PathLike[str] | None,
) -> Any:
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5) or ["resnet50"]
        raise NetError(f"timm has no encoder {name!r}; near it are {', '.join(close)} (all: timm.list_models())")
    if in_channels < 1:
        raise NetError(f"in_channels is {in_channels}: expected 1 or more")
    options: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
    if output_stride is not None:
        options["output_stride"] = output_stride
    if "swin" in architecture:
        options["strict_img_size"] = False  # any image size, not only the pretrained one
    if weights is not None:
        if not os.path.isfile(weights):
            raise NetError(f"backbone_weights {os.fspath(weights)!r} is no file: give timm's weights of {name}")
        options["pretrained_cfg_overlay"] = {"file": os.fspath(weights)}
    try:
        model = timm.create_model(name, pretrained=pretrained or weights is not None, **options)
    except Exception as error:
        # timm raises whatever its models raise: sort it by what was asked for
        if output_stride is not None and not _can_dilate(name, output_stride):
            raise _stride_error(name, output_stride, _native_stride(name)) from error
        if weights is not None:
            raise NetError(
                f"backbone_weights {os.fspath(weights)!r} do not fit {name}: {_first_line(error)}"
            ) from error
        if pretrained:
            save = f"torch.save(timm.create_model('{name}', pretrained=True).state_dict(), '{architecture}.pth')"
            raise NetError(
                f"no pretrained weights for {name!r} ({_first_line(error)}): give backbone_weights a file made, where "
                f'there is a connection, by `python -c "import timm, torch; {save}"`, or set pretrained to false'
            ) from error
        raise NetError(f"timm cannot make {name!r} an encoder ({_first_line(error)}): choose another") from error
    coarsest = max(model.feature_info.reduction())
    if output_stride is not None and coarsest != output_stride:
        raise _stride_error(name, output_stride, coarsest)
    return model


def _can_dilate(name: str, stride: int) -> bool:
    """Whether timm can make this model an encoder of that output stride."""
    if not timm.is_model(name.split(".")[0]):
        return False
    try:
        with torch.device("meta"):
            model = timm.create_model(name, features_only=True, output_stride=stride)
    except Exception:
        return False  # timm has no list of what can be dilated, and raises whatever the model raises
    return bool(max(model.feature_info.reduction()) == stride)


def _native_stride(name: str) -> int:
    with torch.device("meta"):
        return int(max(timm.create_model(name, features_only=True).feature_info.reduction()))


def _stride_error(name: str, asked: int, native: int) -> NetError:
    usable = [s for s in (8, 16) if s < native and _can_dilate(name, s)]
    return NetError(
        f"encoder {name!r} cannot have output_stride {asked}: usable are {_join([*usable, native])} "
        "(resnet, convnext, efficientnet, regnet, mobilenet and xception can be 8, 16 or 32)"
    )


def _first_line(error: BaseException) -> str:
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "..."


def _join(values: Sequence[int]) -> str:
    return ", ".join(str(v) for v in dict.fromkeys(values))
