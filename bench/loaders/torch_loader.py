"""torch's DataLoader, set alike for every row that goes through one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from bench.data.setting import Setting


def shuffled(dataset: Dataset, setting: Setting) -> DataLoader:
    """Whole batches of a dataset of samples, in an order of its own each epoch, by workers that stay."""
    return DataLoader(
        dataset,
        batch_size=min(setting.batch, len(dataset)),  # type: ignore[arg-type]  # torch's base class has no length
        shuffle=True,
        num_workers=setting.threads,
        drop_last=True,
        persistent_workers=True,
        pin_memory=setting.device == "gpu",
    )


def sizes(loader: DataLoader[Any], setting: Setting) -> Iterator[int]:
    """Brings one batch (images, labels) after the other to the setting's device, for ever; the sizes of the batches."""
    while True:
        for images, labels in loader:
            if setting.device == "gpu":
                images, labels = images.cuda(non_blocking=True), labels.cuda(non_blocking=True)
            yield len(images)
