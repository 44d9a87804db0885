"""Encoders from timm as feature pyramids: any family, any stride it allows, any number of input channels."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from nets.encoders import vit
from nets.encoders.dilate import dilate_densenet
from nets.encoders.options import DilatedOptions, EncoderOptions, Needs
from nets.encoders.pretrained import Statistics, create_timm, statistics
from nets.encoders.weights import first_line
from nets.errors import NetError


class Encoder(nn.Module):
    """A timm model that returns its feature maps, finest first.

    name: timm's, with or without the weights' tag ("resnet50", "resnet50.a1_in1k").
    pretrained: True fetches timm's weights from the hub; a path loads them from a file instead (timm's state dict, .pth
    or .safetensors). Either way the first convolution is adapted to in_channels.
    output_stride: the coarsest feature map's; dilates the layers past it. None takes needs.prefer_stride where the
    model can be dilated to it, and else keeps the model's own (mostly 32).
    A plain ViT gets a pyramid of strides 4 to 32 on top (see `nets.encoders.vit`), but for needs.flat; strides are
    counted as if a patch of 14 pixels were of 16.

    channels, strides: one per feature map. statistics: (mean, std) of the pretraining data, and loaded: what the
    weights are, in words; both None without weights.
    Raises NetError, naming what would work.
    """

    channels: list[int]
    strides: list[int]
    statistics: Statistics | None

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        output_stride: int | None = None,
        pretrained: bool | str | os.PathLike[str] = False,
        needs: Needs = Needs(),
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise NetError(f"in_channels is {in_channels}: expected 1 or more")
        native = _strides(name)
        options: dict[str, Any] = {"in_chans": in_channels}
        options |= {"drop_path_rate": needs.drop_path} if needs.drop_path is not None else {}
        self.name, self.pyramid = name, None
        if len(set(native)) == 1:
            if output_stride is not None:
                raise NetError(
                    f"encoder {name!r} is a plain ViT, whose stride is its patches': leave output_stride out"
                )
            self.model: Any = _plain(name, options, pretrained)
            self.channels, self.channels_last = self.model.channels, False
            self.pyramid = None if needs.flat else vit.Pyramid(self.channels, native[0])
            self.strides = [vit.nominal(native[0])] * vit.MAPS if needs.flat else list(vit.STRIDES)
            self.pad_stride = vit.pad_stride(native[0], pyramid=not needs.flat)
        else:
            self._make_hierarchical(native, options, output_stride, needs.prefer_stride, pretrained)
        self.loaded: str | None = self.model.loaded
        self.statistics = statistics(self.model, in_channels) if self.loaded else None
        self._check_pyramid(in_channels, native[0] if len(set(native)) == 1 else 1)

    def _make_hierarchical(
        self,
        native: list[int],
        options: dict[str, Any],
        output_stride: int | None,
        prefer_stride: int | None,
        pretrained: bool | str | os.PathLike[str],
    ) -> None:
        name = self.name
        if output_stride is None and prefer_stride is not None and _can_have(name, prefer_stride):
            output_stride = prefer_stride
        if output_stride is not None and not _can_have(name, output_stride):
            usable = [*(s for s in (8, 16) if s < native[-1] and _can_have(name, s)), native[-1]]
            raise NetError(
                f"encoder {name!r} cannot have output_stride {output_stride}: usable are {_join(usable)} "
                "(resnet, convnext, efficientnet, regnet, mobilenet, densenet and xception can be 8, 16 or 32)"
            )
        ask = output_stride != native[-1] and not _is_densenet(name)
        self.model = create_timm(name, _options(name, output_stride if ask else None) | options, pretrained)
        self.channels = [int(c) for c in self.model.feature_info.channels()]
        self.strides = [min(s, output_stride or s) for s in native]
        if _is_densenet(name) and output_stride is not None:
            dilate_densenet(self.model, output_stride)
        self.channels_last = getattr(self.model, "output_fmt", None) == "NHWC"  # swin and kin
        self.pad_stride = max(self.strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [N,C,H,W], sides multiples of pad_stride -> features [N, channels[i], H/strides[i], W/strides[i]]."""
        features: list[Tensor] = self.model(images)
        if self.channels_last:
            return [f.permute(0, 3, 1, 2) for f in features]
        return list(features) if self.pyramid is None else self.pyramid(features)

    def index_of(self, stride: int) -> int:
        """The last (deepest) feature map of that stride. NetError lists the encoder's strides."""
        if stride not in self.strides:
            raise NetError(
                f"encoder {self.name!r} has no feature map of stride {stride}, only {_join(self.strides)}: "
                "choose a hierarchical encoder (resnet50, convnext_tiny, ...)"
            )
        return len(self.strides) - 1 - self.strides[::-1].index(stride)

    @property
    def trunk(self) -> nn.Module:
        """What is pretrained, can be frozen and has the backbone's learning rate: all but a ViT's pyramid."""
        return self if self.pyramid is None else self.model

    def _check_pyramid(self, in_channels: int, patch: int) -> None:
        """Runs a small image through: models with fixed windows or unpadded convolutions fail here, not in training."""
        height, width = 2 * self.pad_stride, 3 * self.pad_stride
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, in_channels, height, width, device=device))
            sizes = [tuple(f.shape[1:]) for f in features]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise NetError(
                f"encoder {self.name!r} cannot take images of any size ({first_line(error)}): choose another"
            ) from error
        finally:
            self.train(was_training)
        counted = vit.nominal(patch)  # strides are those of patches of this side
        expected = [
            (c, height * counted // (s * patch), width * counted // (s * patch))
            for c, s in zip(self.channels, self.strides, strict=True)
        ]
        if sizes != expected:
            raise NetError(
                f"encoder {self.name!r} gives feature maps {sizes} for a {height}x{width} image where its strides "
                f"{_join(self.strides)} promise {expected}: choose another"
            )


def encoder_of(options: EncoderOptions, needs: Needs = Needs()) -> Encoder:
    """The timm encoder that a net was asked for; `options.backbone` is given."""
    assert options.backbone is not None
    return Encoder(
        options.backbone,
        in_channels=options.in_channels,
        output_stride=options.output_stride if isinstance(options, DilatedOptions) else None,
        pretrained=options.source,
        needs=needs,
    )


def _plain(name: str, options: dict[str, Any], pretrained: bool | str | os.PathLike[str]) -> vit.PlainViT:
    """NetError where timm's model is no ViT after all: an MLP mixer, say."""
    try:
        return vit.PlainViT(name, options, pretrained)
    except (AttributeError, TypeError, AssertionError) as error:
        raise NetError(
            f"encoder {name!r} is no plain ViT and has no pyramid ({first_line(error)}): choose another"
        ) from error


def _strides(name: str, output_stride: int | None = None) -> list[int]:
    """Of the model's feature maps, without making its weights."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5) or ["resnet50"]
        raise NetError(f"timm has no encoder {name!r}; near it are {', '.join(close)} (all: timm.list_models())")
    try:
        with torch.device("meta"):
            return [
                int(s)
                for s in timm.create_model(architecture, **_options(name, output_stride)).feature_info.reduction()
            ]
    except Exception as error:  # timm raises whatever its models raise
        raise NetError(f"timm cannot make {name!r} an encoder ({first_line(error)}): choose another") from error


def _can_have(name: str, output_stride: int) -> bool:
    """Whether the model can be made with that output stride. timm has no list of it: it must be tried."""
    if output_stride == max(_strides(name)):
        return True
    if _is_densenet(name):
        return output_stride in (8, 16)
    try:
        return max(_strides(name, output_stride)) == output_stride
    except NetError:
        return False


def _options(name: str, output_stride: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"features_only": True}
    if output_stride is not None:
        options["output_stride"] = output_stride
    if "swin" in name:
        options["strict_img_size"] = False  # any image size, not only the pretrained one
    return options


def _is_densenet(name: str) -> bool:
    return name.startswith("densenet")


def _join(values: Sequence[int]) -> str:
    return ", ".join(str(v) for v in dict.fromkeys(values))
