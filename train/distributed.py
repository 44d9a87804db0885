"""One process a device: who am I among the ranks, and how do we talk (gloo on CPUs, nccl on GPUs)."""

from __future__ import annotations

import datetime
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import click
import torch
import torch.distributed as dist

from ingest.errors import UserError
from train import failure, torchrun
from train.heartbeat import Heartbeat

PATIENCE = 5.0  # minutes until a rank that makes no progress is named, and all end


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and its device."""

    rank: int
    count: int
    """How many ranks there are."""
    local_rank: int
    local_count: int
    """How many of them run on this machine."""
    device: torch.device
    heartbeat: Heartbeat | None = None
    """Tells the others where this rank stands; None: there are no others, or nobody asks."""

    @property
    def is_main(self) -> bool:
        """Only the main rank speaks and writes."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """The main rank's value, on every rank."""
        if self.count == 1:
            return value
        box = [value]
        with self._waiting():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites every rank's tensors with the main rank's."""
        if self.count > 1:
            with self._waiting():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order, on every rank."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with self._waiting():
            dist.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set. Collective: every rank calls it."""
        if self.count == 1:
            return flag
        total = torch.tensor([int(flag)], device=self.device)
        return bool(self.sum_(total).item())

    def min_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The least value over all ranks, in place."""
        return self._reduce(tensor, dist.ReduceOp.MIN)

    def max_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The greatest value over all ranks, in place."""
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Adds the tensor up over all ranks, in place."""
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def at(self, where: str) -> None:
        """Notes where this rank stands. All call it at the same places, so that one that hangs can be named."""
        if self.heartbeat is not None:
            self.heartbeat.at(where)

    def tick(self) -> None:
        """Notes progress of this rank alone, such as a batch of which others have more or fewer."""
        if self.heartbeat is not None:
            self.heartbeat.tick()

    def _reduce(self, tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        if self.count > 1:
            with self._waiting():
                dist.all_reduce(tensor, op=operation)
        return tensor

    def _waiting(self) -> AbstractContextManager[None]:
        return nullcontext() if self.heartbeat is None else self.heartbeat.waiting()


@contextmanager
def joined(device: str = "auto", patience: float = PATIENCE, option: str = "--device ") -> Iterator[Ranks]:
    """Joins the ranks that torchrun describes in the environment (or is alone), and leaves them at the end.

    device: auto | cpu | gpu. patience: minutes. UserError when a GPU is asked for and there is none for this rank; it
    names `option`, with which the user asked.
    Among several ranks an error inside ends the process here, and soon all others (`train.failure`).
    """
    rank, count = int(os.environ.get("RANK", 0)), torchrun.count()
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_count = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    place = chosen_device(device, rank, local_rank, option)
    if count == 1:
        yield Ranks(rank, count, local_rank, local_count, place)
        return
    store = _join(rank, count, place, datetime.timedelta(minutes=patience + 1))  # the heartbeat is to be first
    heartbeat = Heartbeat(store, rank, count, 60 * patience, _say)
    heartbeat.start()
    try:
        yield Ranks(rank, count, local_rank, local_count, place, heartbeat)
    except BaseException as error:
        failure.end(error, heartbeat)
    heartbeat.stop()
    dist.destroy_process_group()


def chosen_device(wanted: str, rank: int = 0, local_rank: int = 0, option: str = "--device ") -> torch.device:
    """auto | cpu | gpu -> this rank's device; a GPU becomes the current one. UserError where there is none."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_gpu = wanted == "gpu" or (wanted == "auto" and gpus > 0)
    if not on_gpu:
        return torch.device("cpu")
    if gpus == 0:
        raise UserError(f"{option}gpu: this machine shows no GPU; use {option}cpu")
    if local_rank >= gpus:
        raise UserError(
            f"rank {rank} has no GPU of its own: this machine shows {gpus}; start torchrun with --nproc-per-node "
            f"{gpus}, or use {option}cpu"
        )
    place = torch.device("cuda", local_rank)
    torch.cuda.set_device(place)
    return place


def _say(line: str) -> None:
    torchrun.write_error(line)
    click.echo(line, err=True)
    torchrun.flush()


def _join(rank: int, count: int, place: torch.device, timeout: datetime.timedelta) -> dist.Store:
    """Makes the process group. Returns a store for the heartbeat alone: a client serves one thread at a time."""
    on_gpu = place.type == "cuda"
    backend = "nccl" if on_gpu else "gloo"
    # device_id binds nccl to its device at once, so that barriers need no guess.
    bound = place if on_gpu else None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])

    def client() -> dist.Store:
        return dist.TCPStore(address, port, is_master=False, wait_for_workers=False)

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = client()
        start = _name_of_start(store, rank, count)
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(start, store),
            rank=rank,
            world_size=count,
            timeout=timeout,
            device_id=bound,
        )
        return dist.PrefixStore(f"{start}/heartbeat", client())
    dist.init_process_group(backend, timeout=timeout, device_id=bound)  # rank 0 hosts the store
    return dist.PrefixStore("segrail/heartbeat", client())


def _name_of_start(store: dist.Store, rank: int, count: int) -> str:
    """A prefix for keys in torchrun's own store that only the ranks of this start know.

    torchrun keeps one store while it starts its ranks again and again (--max-restarts), and torch 2.15 leaves the keys
    of the last start in it: ranks then find addresses of processes that are dead, and wait for them. The number of
    restarts cannot tell the starts apart, each node counts its own. So the main rank makes up a name, and hands it to
    each rank that asks with a name of its own: an old question may get an answer, but an old answer is never read.
    """
    if rank > 0:
        mine = uuid.uuid4().hex
        store.set(f"segrail/asks/{rank}", mine)
        start = store.get(f"segrail/answers/{mine}").decode()
        store.set(f"segrail/{start}/heard/{rank}", "")
        return f"segrail/{start}"
    start = uuid.uuid4().hex
    missing, deadline = set(range(1, count)), time.monotonic() + 600
    while missing:
        for other in sorted(missing):
            if store.check([f"segrail/asks/{other}"]):
                store.set("segrail/answers/" + store.get(f"segrail/asks/{other}").decode(), start)
            if store.check([f"segrail/{start}/heard/{other}"]):
                missing.discard(other)
        if time.monotonic() > deadline:
            raise RuntimeError(f"ranks {sorted(missing)} did not start within 10 minutes")
        time.sleep(0.01)
    return f"segrail/{start}"
