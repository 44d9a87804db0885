"""One process a device: who am I among the ranks, and how do we talk (gloo on CPUs, nccl on GPUs)."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ingest.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process's place in the world, and its device."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Only the main rank speaks and writes."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """The main rank's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites every rank's tensors with the main rank's."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order, on every rank."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set. Every rank must ask."""
        if self.world == 1:
            return flag
        total = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(total)
        return bool(total.item())

    def min_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The least value over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
        return tensor

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Adds the tensor up over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """Joins the world that torchrun describes in the environment (or a world of one), and leaves it at the end.

    device: auto | cpu | gpu. UserError when a GPU is asked for and there is none for this rank.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_gpu = device == "gpu" or (device == "auto" and gpus > 0)
    if on_gpu and local_rank >= gpus:
        raise UserError(
            f"rank {rank} has no GPU of its own: this machine shows {gpus}; "
            f"start torchrun with --nproc-per-node {max(gpus, 1)}, or train with train.device=cpu"
        )
    place = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    if world > 1:
        backend = "nccl" if on_gpu else "gloo"
        # device_id binds nccl to its device at once, so that barriers need no guess.
        bound = place if on_gpu else None
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            store = _fresh_store(rank, world)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, device_id=bound)
        else:
            dist.init_process_group(backend, device_id=bound)
    try:
        yield Ranks(rank, world, local_rank, local_world, place)
    finally:
        if world > 1:
            dist.destroy_process_group()


def _fresh_store(rank: int, world: int) -> dist.Store:
    """A part of torchrun's own store that only the ranks of this start know.

    torchrun keeps one store while it starts its ranks again and again (--max-restarts), and torch 2.15 leaves the keys
    of the last start in it: ranks then find addresses of processes that are dead, and wait for them. The number of
    restarts cannot tell the starts apart, each node counts its own. So the main rank makes up a name, and hands it to
    each rank that asks with a name of its own: an old question may get an answer, but an old answer is never read.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, world, is_master=False)
    if rank > 0:
        mine = uuid.uuid4().hex
        store.set(f"segrail/asks/{rank}", mine)
        start = store.get(f"segrail/answers/{mine}").decode()
        store.set(f"segrail/{start}/heard/{rank}", "")
        return dist.PrefixStore(f"segrail/{start}", store)
    start = uuid.uuid4().hex
    missing, deadline = set(range(1, world)), time.monotonic() + 600
    while missing:
        for other in sorted(missing):
            if store.check([f"segrail/asks/{other}"]):
                store.set("segrail/answers/" + store.get(f"segrail/asks/{other}").decode(), start)
            if store.check([f"segrail/{start}/heard/{other}"]):
                missing.discard(other)
        if time.monotonic() > deadline:
            raise RuntimeError(f"ranks {sorted(missing)} did not start within 10 minutes")
        time.sleep(0.01)
    return dist.PrefixStore(f"segrail/{start}", store)
