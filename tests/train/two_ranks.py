"""Two processes that talk by gloo, for what must come out the same as in one."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Calls work(rank) in two new processes, a module's function; returns what each gave (tensors, plain values)."""
    mp.spawn(_join, args=(work, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _join(rank: int, work: Callable[[int], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    patience = datetime.timedelta(seconds=60)  # a rank that waits for a collective the other never enters
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=patience)
    try:
        torch.save(work(rank), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
