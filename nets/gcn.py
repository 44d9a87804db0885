"""GCN (Peng, Zhang, Yu, Luo, Sun, "Large Kernel Matters", CVPR 2017, arXiv 1703.02719)."""

from __future__ import annotations

from torch import Tensor, nn

from nets.blocks import BilinearDeconv, Double
from nets.encoders import Encoder, EncoderOptions, encoder_of
from nets.errors import NetError
from nets.net import Net


class GCN(Net):
    """Global convolutions and boundary refinement on strides 4 to 32, added up on the way to full size.

    26.09 M parameters with R50 at 21 classes; 25.39 M with kernel size 11 and no deconvolution, as in
    yassouali/pytorch-segmentation.
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, kernel_size: int, deconvolution: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.levels = [encoder.index_of(stride) for stride in (4, 8, 16, 32)]
        self.score = nn.ModuleList(
            nn.Sequential(
                GlobalConvolution(encoder.channels[level], num_classes, kernel_size), BoundaryRefinement(num_classes)
            )
            for level in self.levels
        )
        # from stride 32 to 16, 8, 4, then to 2 and 1, a refinement behind each
        self.doublings = nn.ModuleList(BilinearDeconv(num_classes) if deconvolution else Double() for _ in range(5))
        self.refine = nn.ModuleList(BoundaryRefinement(num_classes) for _ in range(5))

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        features = self.encoder(images)
        scores = [score(features[level]) for score, level in zip(self.score, self.levels, strict=True)]
        out = scores.pop()
        for double, refine in zip(self.doublings, self.refine, strict=True):
            out = double(out)
            out = refine(out + scores.pop() if scores else out)
        return out, None


class GlobalConvolution(nn.Module):
    """A k x k receptive field as (k x 1, 1 x k) plus (1 x k, k x 1), without nonlinearity."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        k, pad = kernel_size, kernel_size // 2
        self.left = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, (k, 1), padding=(pad, 0)),
            nn.Conv2d(out_channels, out_channels, (1, k), padding=(0, pad)),
        )
        self.right = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, (1, k), padding=(0, pad)),
            nn.Conv2d(out_channels, out_channels, (k, 1), padding=(pad, 0)),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.left(features) + self.right(features)


class BoundaryRefinement(nn.Module):
    """The score map plus a small residual branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, scores: Tensor) -> Tensor:
        return scores + self.branch(scores)


def gcn(
    num_classes: int,
    encoder: EncoderOptions = EncoderOptions("resnet50"),
    *,
    kernel_size: int = 15,
    deconvolution: bool = True,
) -> Net:
    """GCN over any timm encoder with features at strides 4, 8, 16 and 32.

    kernel_size: odd; 15 is the paper's best. deconvolution: doubles the scores by a learned 4x4 transposed
    convolution that starts as bilinear; false keeps bilinear.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise NetError(f"kernel_size is {kernel_size}: expected an odd number, the paper's best is 15")
    return GCN(num_classes, encoder_of(encoder), kernel_size=kernel_size, deconvolution=deconvolution)
