"""The shared pieces against torch's own, or against their definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import nets
from nets.blocks import BilinearDeconv, Double, separable_conv_bn_relu
from nets.duc import hdc_rates
from nets.encoders import Encoder
from nets.net import spread_like
from nets.ppm import region_means, spread_cells
from nets.unpool import max_pool, max_unpool


def images(height: int, width: int, channels: int) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(6, 6), (13, 17), (5, 64), (1, 2)])
def test_region_means_are_adaptive_pooling(size: tuple[int, int]) -> None:
    features = images(*size, 8)
    for bins, means in zip((1, 2, 3, 6), region_means(features, (1, 2, 3, 6)), strict=True):
        torch.testing.assert_close(means, F.adaptive_avg_pool2d(features, bins))


@pytest.mark.parametrize("size", [(6, 6), (13, 17), (64, 65), (5, 2), (90, 1)])
@pytest.mark.parametrize("bins", [2, 3, 6])
def test_spreading_cells_is_bilinear_interpolation(bins: int, size: tuple[int, int]) -> None:
    """To float32's last digits, gradient included; compared with torch's in float64."""
    cells = images(bins, bins, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = cells.detach().double().requires_grad_()
    ours = spread_cells(cells, images(*size, 1))
    expected = F.interpolate(exact, size=size, mode="bilinear", align_corners=False)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours.double(), expected, rtol=5e-7, atol=5e-7)
    weights = images(*size, 8)
    (grad,) = torch.autograd.grad((ours * weights).sum(), cells)
    (expected_grad,) = torch.autograd.grad((expected * weights.double()).sum(), exact)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-5)


def test_gradient_of_spreading_survives_bfloat16() -> None:
    """A coherent gradient over a 64x64 map, from 2x2 cells: within bfloat16's rounding of the exact sum."""
    cells = torch.zeros(1, 8, 2, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        spread = spread_cells(cells, torch.zeros(1, 1, 64, 64))
    assert spread.dtype == torch.bfloat16
    spread.backward(torch.full_like(spread, 0.01))
    assert cells.grad is not None
    torch.testing.assert_close(cells.grad, torch.full_like(cells.grad, 64 * 64 / 4 * 0.01), rtol=0.01, atol=0)


def test_deconvolution_starts_as_bilinear() -> None:
    scores = images(7, 9, 5)
    ours, bilinear = BilinearDeconv(5)(scores), Double()(scores)
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], bilinear[..., 1:-1, 1:-1])


def test_unpooling_is_torchs() -> None:
    features = images(8, 12, 3)
    pooled, switches = max_pool(features)
    expected, indices = F.max_pool2d(features, 2, return_indices=True)
    assert torch.equal(pooled, expected)
    assert torch.equal(max_unpool(pooled, switches), F.max_unpool2d(expected, indices, 2))


def test_ties_go_to_the_first_as_in_torch() -> None:
    features = torch.zeros(1, 1, 4, 4)
    features[0, 0, 0, 1] = features[0, 0, 1, 0] = 1.0
    pooled, switches = max_pool(features)
    expected, indices = F.max_pool2d(features, 2, return_indices=True)
    assert torch.equal(max_unpool(pooled + 1, switches), F.max_unpool2d(expected + 1, indices, 2))


def test_unpooling_passes_gradients_to_the_maxima_only() -> None:
    features = images(4, 4, 1).requires_grad_()
    pooled, switches = max_pool(features)
    max_unpool(pooled, switches).sum().backward()
    assert features.grad is not None
    assert features.grad.sum() == pooled.numel()
    assert torch.equal(features.grad != 0, max_unpool(torch.ones_like(pooled), switches) != 0)


def test_spreading_is_channels_last() -> None:
    cell, other = images(1, 1, 8), images(5, 7, 3)
    spread = spread_like(cell, other)
    assert spread.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(spread, cell.expand(2, 8, 5, 7))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("bigger", ([1, 2, 5, 9] * 5 + [1, 2, 5], [5, 9, 17])),
        ("rf", ([1, 2, 3] * 7 + [2, 2], [3, 4, 5])),
        ("conv", ([2] * 23, [4, 4, 4])),
    ],
)
def test_hdc_rates_of_resnet101(pattern: str, expected: tuple[list[int], list[int]]) -> None:
    assert (hdc_rates(pattern, 23, 0), hdc_rates(pattern, 3, 1)) == expected


def test_hdc_is_set_in_the_encoder() -> None:
    net = nets.build("duc", 3, backbone="resnet18", hdc="bigger")
    assert [block.conv2.dilation[0] for block in net.encoder.model.layer4] == [5, 9]
    with pytest.raises(nets.NetError, match="did you mean 'bigger'"):
        nets.build("duc", 3, backbone="resnet18", hdc="biger")
    with pytest.raises(nets.NetError, match="goes with a ResNet"):
        nets.build("duc", 3, backbone="mobilenetv4_conv_small", hdc="bigger")


@pytest.mark.parametrize("stride", [8, 16])
def test_densenet_dilates_without_changing_its_weights(stride: int) -> None:
    plain, dilated = Encoder("densenet121"), Encoder("densenet121", output_stride=stride)
    dilated.load_state_dict(plain.state_dict())
    assert dilated.strides == [2, 4, 8, 16, 32][: stride.bit_length() - 1] + [stride] * (6 - stride.bit_length())
    image = images(64, 64, 3)
    with torch.no_grad():
        finest = zip(plain.eval()(image), dilated.eval()(image), strict=True)
        same = [torch.equal(a, b) for a, b in finest if a.shape == b.shape]
    assert all(same)


def test_duc_sums_four_dilated_convolutions() -> None:
    net = nets.build("duc", 3, backbone="resnet18").eval()
    assert [conv.dilation for conv in net.upsampling] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    assert all(conv.out_channels == 3 * 8 * 8 for conv in net.upsampling)
    features = images(9, 13, 512)
    with torch.no_grad():
        expected = sum(conv(features) for conv in net.upsampling)
        torch.testing.assert_close(net.upsampling(features), expected)


def test_separable_convolutions_have_a_norm_between_or_none() -> None:
    kinds = [
        [type(part).__name__ for part in separable_conv_bn_relu(4, 8, norm_between=norm)] for norm in (True, False)
    ]
    assert kinds == [
        ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"],
        ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"],
    ]


@pytest.mark.parametrize("norm", [True, False])
def test_deeplab_hands_the_choice_to_aspp_and_decoder(norm: bool) -> None:
    net = nets.build("deeplabv3plus", 3, backbone="resnet18", separable=True, separable_norm=norm)
    separable = [*net.aspp.branches[1:], *net.refine[:2]]
    assert [len(part) for part in separable] == [6 if norm else 4] * 5


@pytest.mark.parametrize(
    ("backbone", "asked", "norms", "rate"),
    [
        ("convnext_atto", {}, 4, 0.3),
        ("swin_tiny_patch4_window7_224", {}, 4, 0.3),
        ("convnext_atto", {"norms": False, "drop_path": 0.1}, 0, 0.1),
        ("resnet18", {}, 0, 0.0),
        ("resnet18", {"norms": True, "drop_path": 0.2}, 4, 0.2),
    ],
)
def test_upernet_norms_and_drop_path(backbone: str, asked: dict, norms: int, rate: float) -> None:
    net = nets.build("upernet", 3, backbone=backbone, channels=16, **asked)
    assert sum(isinstance(norm, torch.nn.LayerNorm) for norm in net.norms) == norms
    rates = [part.drop_prob for part in net.encoder.modules() if type(part).__name__ == "DropPath"]
    assert max(rates, default=0.0) == pytest.approx(rate)
    with pytest.raises(nets.NetError, match=r"drop_path is 1\.5"):
        nets.build("upernet", 3, backbone=backbone, drop_path=1.5)
