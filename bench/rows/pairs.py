"""Two nets by turns in one process, in CPU time: what `python -m bench.nets --turns` compares."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from bench.peers import Contender
from nets.measure import measure


def cpu_seconds(nets: list[nn.Module], size: int, batch: int, turns: int) -> list[list[float]]:
    """CPU seconds of each net's forward + backward passes, [net][turn]: float32, channels-last, on this thread.

    The nets take turns, in reversed order every second time, so that what else the machine does falls on all alike; CPU
    time does not count waiting. One pass of each before warms up.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    steps = [_step(net.to(memory_format=torch.channels_last).train(), images) for net in nets]
    for step in steps:
        step()
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(turns):
        order = list(enumerate(steps))
        for i, step in order if turn % 2 == 0 else reversed(order):
            start = time.process_time()
            step()
            seconds[i].append(time.process_time() - start)
    return seconds


def line(pair: tuple[Contender, Contender], classes: int, size: int, batch: int, turns: int) -> str:
    """Measures a pair in a fresh process; a row for reading: seconds a pass, their ratio, and that per multiply-add."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_line, pair, classes, size, batch, turns).result()


def _line(pair: tuple[Contender, Contender], classes: int, size: int, batch: int, turns: int) -> str:
    macs = [measure(lambda one=one: one.make(classes), size)[0].macs for one in pair]  # type: ignore[misc]
    ours, theirs = cpu_seconds([one.make(classes) for one in pair], size, batch, turns)
    ratio = median_ratio(ours, theirs)
    return (
        f"{pair[0].net:<14}{pair[1].library:<12}{pair[0].note:<37}{statistics.median(ours):>9.2f}"
        f"{statistics.median(theirs):>9.2f}{ratio:>8.3f}{ratio * macs[1] / macs[0]:>12.3f}"
    )


HEADER = f"{'net':<14}{'beside':<12}{'encoder':<37}{'ours s':>9}{'theirs s':>9}{'ratio':>8}{'per MAC':>12}"


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over turns of ours / theirs: below 1 ours takes less."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _step(net: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        net(images).float().square().mean().backward()
        net.zero_grad(set_to_none=True)

    return step
