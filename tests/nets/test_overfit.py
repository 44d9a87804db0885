"""Each net learns four scenes by heart: its gradients, its upsampling and its registration are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import nets

CASES: list[tuple[str, dict[str, Any]]] = [
    ("deeplabv3plus", {"backbone": "resnet18", "aux": True}),
    ("duc", {"backbone": "resnet18"}),
    ("enet", {}),
    ("enet", {"form": "authors"}),
    ("fcn", {"backbone": "resnet18"}),
    ("gcn", {"backbone": "resnet18", "kernel_size": 7}),
    ("linear", {"backbone": "vit_tiny_patch16_224"}),
    ("pspnet", {"backbone": "resnet18", "aux": True}),
    ("segnet", {}),
    ("segnet", {"backbone": "resnet18"}),
    ("unet", {}),
    ("unet", {"backbone": "resnet18"}),
    ("upernet", {"backbone": "resnet18", "channels": 64}),
    ("upernet", {"backbone": "vit_tiny_patch16_224", "channels": 64}),
]
IDS = ["-".join([name, *(str(v) for v in options.values())]) for name, options in CASES]
COLORS = torch.tensor([[130, 180, 230], [90, 90, 95], [40, 120, 50], [200, 40, 40]])  # of the classes, in RGB


def scenes(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Sky over road, a tree (disc) and a car (box) -> uint8 [4,3,S,S] channels-last with noise, labels [4,S,S]."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    labels = []
    for x, y, horizon in ((12, 22, 30), (44, 20, 36), (20, 40, 26), (50, 44, 32)):
        label = (rows > horizon).long()
        label[(rows - y) ** 2 + (columns - x) ** 2 < 12**2] = 2
        label[(rows > size - 20) & (rows < size - 6) & ((columns - (size - x)).abs() < 11)] = 3
        labels.append(label)
    stacked = torch.stack(labels)
    noise = torch.randn((*stacked.shape, 3), generator=generator) * 25
    images = (COLORS[stacked] + noise).clamp(0, 255).to(torch.uint8)
    return images.permute(0, 3, 1, 2), stacked


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_learns_four_scenes_by_heart(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    torch.manual_seed(0)
    images, labels = scenes()
    net = nets.Segmenter(nets.build(name, 4, **options), [0.4] * 3, [0.25] * 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    enough = 0.9 if name == "linear" else 0.95  # one value for 16x16 pixels: borders stay soft
    accuracy = 0.0
    for step in range(1, 301):
        logits = net.train()(images)
        loss = F.cross_entropy(logits.out, labels)
        if logits.aux is not None:
            loss = loss + 0.4 * F.cross_entropy(logits.aux, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            with torch.no_grad():
                accuracy = (net.eval()(images).argmax(1) == labels).float().mean().item()
            if accuracy > enough:
                break
    assert accuracy > enough, f"{accuracy:.3f} after {step} steps"
