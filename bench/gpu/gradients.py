"""Stage about upsampling: the error of its gradient in bfloat16, float32 and as matrix products, against float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.gpu.stage import Place, Result
from nets.ppm import spread_cells

# (name, channels, from, to): PSPNet's pooled map at 512 pixels and stride 8; logits of 21 classes
CASES = (("pooled map 2 -> 64", 512, 2, 64), ("logits 64 -> 512", 21, 64, 512))


def gradients(place: Place) -> Result:
    """The gradient of a sum of upsampled values weighted by ones (all of a sign: the worst for a short sum)."""
    found = {}
    for name, channels, small, large in CASES:
        torch.manual_seed(0)
        batch = 1 if place.quick else 4
        weights = 1 + 0.1 * torch.randn(batch, channels, large, large, device=place.device)
        maps = torch.randn(batch, channels, small, small, device=place.device)
        exact = _gradient(maps.double().cpu(), weights.double().cpu(), _interpolated)
        found[name] = {
            "interpolate, bfloat16": _error(_gradient(maps.bfloat16(), weights.bfloat16(), _interpolated), exact),
            "interpolate, float32": _error(_gradient(maps, weights, _interpolated), exact),
            "matrix products, bfloat16": _error(_gradient(maps.bfloat16(), weights.bfloat16(), spread_cells), exact),
            "matrix products, float32": _error(_gradient(maps, weights, spread_cells), exact),
        }
    return found


def _interpolated(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _gradient(maps: Tensor, weights: Tensor, upsample: object) -> Tensor:
    maps = maps.clone().to(memory_format=torch.channels_last).requires_grad_()
    upsample(maps, weights).backward(weights)  # type: ignore[operator]
    assert maps.grad is not None
    return maps.grad


def _error(found: Tensor, exact: Tensor) -> float:
    """Relative, of the whole gradient's norm."""
    return float((found.double().cpu() - exact).norm() / exact.norm())
