"""ENet (Paszke, Chaurasia, Kim, Culurciello, arXiv 1606.02147): a small, early-downsampling net for real time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.blocks import init_he
from nets.errors import check_choice
from nets.net import Net
from nets.unpool import max_pool, max_unpool


@dataclass(frozen=True)
class Form:
    """What the paper leaves open, or what the authors' released code (e-lab/ENet-training) does in another way."""

    quarter_of_output: bool  # a bottleneck's inner channels: a quarter of its output's, else of its input's
    bias: bool  # in every convolution but the 1x1 and 2x2 projections and the expansions
    eps: float  # of the batch norms
    wide_first: bool  # asymmetric convolutions: 1x5 before 5x1
    decoder_act: Callable[[int], nn.Module]  # channels -> activation
    decoder_dropout: float
    classifier_kernel: int  # of the last transposed convolution

    def inner(self, in_channels: int, out_channels: int) -> int:
        return (out_channels if self.quarter_of_output else in_channels) // 4

    def norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.eps)


def _relu(channels: int) -> nn.Module:
    return nn.ReLU(inplace=True)


FORMS = {
    # as the paper's text reads: PReLU and dropout throughout, no biases; inner channels are a quarter of the input's
    "paper": Form(
        quarter_of_output=False,
        bias=False,
        eps=1e-5,
        wide_first=False,
        decoder_act=nn.PReLU,
        decoder_dropout=0.1,
        classifier_kernel=3,
    ),
    "authors": Form(
        quarter_of_output=True,
        bias=True,
        eps=1e-3,
        wide_first=True,
        decoder_act=_relu,
        decoder_dropout=0.0,
        classifier_kernel=2,
    ),
}


class ENet(Net):
    """The paper's table of layers. Unpooling gets its indices from the pooling of the same size.

    At 21 classes 0.362 M parameters in the "paper" form and 0.364 M in the "authors" form (paper: 0.37 M;
    yassouali/pytorch-segmentation, 0.359 M, has one PReLU slope per layer, here as in the paper one per feature map).
    """

    stride = 8

    def __init__(self, num_classes: int, form: Form, *, in_channels: int = 3, decoder: bool = True) -> None:
        super().__init__()
        self.initial = Initial(in_channels, form)
        first = self.initial.out_channels
        # dropout 0.01 in the first five bottlenecks, 0.1 in those after them
        self.down1 = Down(first, 64, form, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, form, dropout=0.01) for _ in range(4)))
        self.down2 = Down(64, 128, form)
        self.stage2 = _context_stage(form)
        self.stage3 = _context_stage(form)
        self.decoder = decoder
        self.classifier: nn.Module
        if decoder:
            self.up4 = Up(128, 64, form)
            self.stage4 = nn.Sequential(*(Bottleneck(64, form, in_decoder=True) for _ in range(2)))
            self.up5 = Up(64, first, form)
            self.stage5 = Bottleneck(first, form, in_decoder=True)
            self.classifier = _double(first, num_classes, form.classifier_kernel, bias=True)
        else:
            self.classifier = nn.Conv2d(128, num_classes, 1)
        self.apply(init_he)

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        features, switches1 = self.down1(self.initial(images))
        features, switches2 = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        if self.decoder:
            features = self.stage4(self.up4(features, switches2))
            features = self.stage5(self.up5(features, switches1))
        return self.classifier(features), None


def enet(num_classes: int, *, in_channels: int = 3, form: str = "paper", decoder: bool = True) -> Net:
    """ENet; it has no separate encoder.

    form: "paper" has inner channels of 4/16/32/16 in its downsampling and upsampling bottlenecks, PReLU and dropout
    throughout, no biases and a 3x3 last transposed convolution. "authors" follows their released code: 16/32/16/4
    inner channels, a decoder with ReLU and without dropout, biases before the norms, norms with eps 1e-3 and a 2x2
    last transposed convolution.
    decoder: false is the net of the authors' first training stage, the encoder and a 1x1 classifier at stride 8.
    """
    check_choice("enet", "form", form, FORMS)
    return ENet(num_classes, FORMS[form], in_channels=in_channels, decoder=decoder)


class Initial(nn.Module):
    """13 strided 3x3 filters beside the max-pooled input; 16 maps for RGB."""

    def __init__(self, in_channels: int, form: Form) -> None:
        super().__init__()
        self.out_channels = 13 + in_channels
        self.conv = nn.Conv2d(in_channels, 13, 3, stride=2, padding=1, bias=form.bias)
        self.norm = form.norm(self.out_channels)
        self.act = nn.PReLU(self.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.norm(torch.cat([self.conv(images), F.max_pool2d(images, 2)], dim=1)))


class Bottleneck(nn.Module):
    """A residual block whose branch is regular, dilated or asymmetric; the size stays."""

    def __init__(
        self,
        channels: int,
        form: Form,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
        dropout: float = 0.1,
        in_decoder: bool = False,
    ) -> None:
        super().__init__()
        act = form.decoder_act if in_decoder else nn.PReLU
        inner = channels // 4
        conv: tuple[nn.Module, ...]
        if asymmetric:
            tall = {"kernel_size": (5, 1), "padding": (2, 0)}
            wide = {"kernel_size": (1, 5), "padding": (0, 2)}
            first, second = (wide, tall) if form.wide_first else (tall, wide)
            conv = (
                nn.Conv2d(inner, inner, **first, bias=False),  # type: ignore[arg-type]
                nn.Conv2d(inner, inner, **second, bias=form.bias),  # type: ignore[arg-type]
            )
        else:
            conv = (nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=form.bias),)
        self.branch = nn.Sequential(
            *_projection(channels, inner, form, act),
            *conv,
            *_expansion(inner, channels, form, act),
            nn.Dropout2d(form.decoder_dropout if in_decoder else dropout),
        )
        self.act = act(channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.act(features + self.branch(features))


class Down(nn.Module):
    """Downsamples by 2: max pooling on the main side, a strided 2x2 projection in the branch."""

    def __init__(self, in_channels: int, out_channels: int, form: Form, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = form.inner(in_channels, out_channels)
        self.branch = nn.Sequential(
            *_projection(in_channels, inner, form, nn.PReLU, stride=2),
            nn.Conv2d(inner, inner, 3, padding=1, bias=form.bias),
            *_expansion(inner, out_channels, form, nn.PReLU),
            nn.Dropout2d(dropout),
        )
        self.missing = out_channels - in_channels  # the main side's channels are filled up with zeros
        self.act = nn.PReLU(out_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        pooled, switches = max_pool(features)
        return self.act(F.pad(pooled, (0, 0, 0, 0, 0, self.missing)) + self.branch(features)), switches


class Up(nn.Module):
    """Upsamples by 2: projection and unpooling on the main side, a full (transposed) convolution in the branch."""

    def __init__(self, in_channels: int, out_channels: int, form: Form) -> None:
        super().__init__()
        inner = form.inner(in_channels, out_channels)
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), form.norm(out_channels))
        self.branch = nn.Sequential(
            *_projection(in_channels, inner, form, form.decoder_act),
            _double(inner, inner, 3, bias=form.bias),
            *_expansion(inner, out_channels, form, form.decoder_act),
            nn.Dropout2d(form.decoder_dropout),
        )
        self.act = form.decoder_act(out_channels)

    def forward(self, features: Tensor, switches: Tensor) -> Tensor:
        return self.act(max_unpool(self.main(features), switches) + self.branch(features))


def _context_stage(form: Form) -> nn.Sequential:
    """The bottlenecks of stage 2 after its downsampling one, and all of stage 3: dilated up to 16."""
    return nn.Sequential(
        Bottleneck(128, form),
        Bottleneck(128, form, dilation=2),
        Bottleneck(128, form, asymmetric=True),
        Bottleneck(128, form, dilation=4),
        Bottleneck(128, form),
        Bottleneck(128, form, dilation=8),
        Bottleneck(128, form, asymmetric=True),
        Bottleneck(128, form, dilation=16),
    )


def _double(in_channels: int, out_channels: int, kernel: int, *, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution to twice the height and width; kernel is 2 or 3."""
    odd = kernel % 2
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, padding=odd, output_padding=odd, bias=bias)


def _projection(
    in_channels: int, inner: int, form: Form, act: Callable[[int], nn.Module], *, stride: int = 1
) -> tuple[nn.Module, ...]:
    """1x1, or 2x2 where it downsamples."""
    return (
        nn.Conv2d(in_channels, inner, stride, stride=stride, bias=False),
        form.norm(inner),
        act(inner),
    )


def _expansion(inner: int, out_channels: int, form: Form, act: Callable[[int], nn.Module]) -> tuple[nn.Module, ...]:
    return (
        form.norm(inner),
        act(inner),
        nn.Conv2d(inner, out_channels, 1, bias=False),
        form.norm(out_channels),
    )
