"""The net as it is trained, saved and exported: plain images in, logits out, frozen parts held still."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nets.errors import NetError
from nets.net import Logits, find_encoder


class Segmenter(nn.Module):
    """Normalizes on the device, in the compute dtype, then runs the net.

    Takes images [N,C,H,W] as uint8 (or any float dtype, 0..255) and returns what the net returns. mean and std are
    per channel, of images scaled to 0..1; they are buffers, so a checkpoint carries them and an exported model takes
    plain uint8 images.

    freeze_backbone: the encoder's parameters get no gradients and its batch norms keep their running statistics.
    freeze_bn: True keeps the encoder's batch norms as they are, scale and shift included (pretrained ones, in small
    batches); "all" keeps the head's, too, which only makes sense once they were trained: at the start they are the
    identity. Both outlive `train()`. Raises NetError where there is no encoder to freeze, or for mean/std that cannot
    be.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        freeze_backbone: bool = False,
        freeze_bn: bool | str = False,
    ) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise NetError(f"mean has {len(mean)} channels, std {len(std)}: give one of each per image channel")
        if not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
            raise NetError(f"mean {list(mean)}, std {list(std)}: expected 0..1 (divide 8-bit values by 255), std > 0")
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32))
        self.freeze_backbone = freeze_backbone
        self.freeze_bn = freeze_bn
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: Tensor) -> Logits | Tensor:
        """images [N,C,H,W] uint8 or float 0..255 -> the net's output."""
        return self.net(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """(images / 255 - mean) / std as one multiply-add, in autocast's dtype or else the parameters'."""
        device = images.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.mean.dtype
        scale = (1 / (255 * self.std)).to(dtype).view(1, -1, 1, 1)
        shift = (-self.mean / self.std).to(dtype).view(1, -1, 1, 1)
        # 0..255 are exact in every float dtype, bf16 included
        return torch.addcmul(shift, images.to(dtype), scale)

    def train(self, mode: bool = True) -> Segmenter:
        """As nn.Module's, but what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        frozen: list[nn.Module] = []
        if self.freeze_backbone:
            frozen.append(self._encoder("freeze_backbone", "leave freeze_backbone out"))
        if self.freeze_bn:
            whole = self.net
            if self.freeze_bn != "all":
                whole = self._encoder("freeze_bn", "freeze_bn: all freezes every batch norm")
            frozen += [module for module in whole.modules() if isinstance(module, _BatchNorm)]
        return frozen

    def _encoder(self, option: str, remedy: str) -> nn.Module:
        encoder = find_encoder(self.net)
        if encoder is None:
            raise NetError(
                f"{type(self.net).__name__} has no separate encoder to freeze ({option}): {remedy}, "
                "or give the net a backbone"
            )
        return encoder
