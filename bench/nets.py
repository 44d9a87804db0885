"""`python -m bench.nets`: what each net costs, eager, channels-last and compiled, beside other libraries' nets.

Each row is measured in a process of its own: peak memory is then the row's, and no compiler cache is shared.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from torch import nn
from tqdm.auto import tqdm

import nets
from bench.peers import Contender, contenders, pairs
from bench.results.table import aligned, ratio
from bench.rows import pairs as paired
from ingest.errors import UserError, nearest, run
from ingest.shards import atomic
from nets.measure import measure
from pipeline.options import bundled
from train import backends
from train.log import provenance

CLASSES = 21
# eager: float32, NCHW. The other two: channels-last, and on a GPU bfloat16 autocast
MODES = ("eager", "channels-last", "compiled")


@dataclass(frozen=True)
class Setting:
    device: str  # "cpu" or "cuda"
    size: int  # of the square images, pixels
    batch: int
    seconds: float  # to measure for, forward and forward + backward each
    threads: int  # of torch, on a CPU


@dataclass(frozen=True)
class Row:
    """One net in one mode."""

    net: str
    library: str
    note: str
    mode: str
    parameters_m: float  # millions
    gmacs: float  # per image, in eval, half of FlopCounterMode's count
    forward: float  # images/s, eval, no gradients
    train: float  # images/s, forward + backward
    peak_mb: float  # of forward + backward: GPU memory allocated, or the process's growth in resident memory


def measure_row(contender: Contender, mode: str, setting: Setting) -> Row:
    """Builds the net, warms it up and times it. Call it in a fresh process."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    cost, _ = measure(lambda: contender.make(CLASSES), setting.size)
    net = contender.make(CLASSES).to(setting.device)
    images = torch.randn(setting.batch, 3, setting.size, setting.size, device=setting.device)
    if mode != "eager":
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    step: nn.Module = torch.compile(net) if mode == "compiled" else net  # type: ignore[assignment]
    amp = torch.autocast(setting.device, torch.bfloat16, enabled=mode != "eager" and setting.device == "cuda")

    def forward() -> None:
        with torch.no_grad(), amp:
            step(images)

    def train() -> None:
        with amp:
            loss = step(images).float().square().mean()
        loss.backward()
        net.zero_grad(set_to_none=True)

    on_gpu = setting.device == "cuda"
    # cuDNN's autotuner, as the trainer has it on: one shape comes again and again
    with backends.autotuned(True, torch.device(setting.device)):
        net.eval()
        forward_rate = setting.batch * _rate(forward, setting)
        net.train()
        before = _resident_mb()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        train_rate = setting.batch * _rate(train, setting)
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _resident_mb() - before
    return Row(
        contender.net,
        contender.library,
        contender.note,
        mode,
        round(cost.parameters / 1e6, 3),
        round(cost.macs / 1e9, 2),
        round(forward_rate, 3),
        round(train_rate, 3),
        round(peak, 1),
    )


def _rate(call: Callable[[], None], setting: Setting) -> float:
    """Calls a second, after one warm-up (which compiles): the best of single calls on a CPU, the mean on a GPU."""
    call()
    call()
    _synchronize(setting)
    start = last = time.perf_counter()
    calls, best = 0, float("inf")
    while last < start + setting.seconds or not calls:
        call()
        if setting.device == "cpu":  # a shared machine disturbs some calls, and never speeds one up
            now = time.perf_counter()
            best, last = min(best, now - last), now
        else:
            last = time.perf_counter()
        calls += 1
        if setting.device == "cuda" and calls % 10 == 0:
            _synchronize(setting)  # bounds the queue
    _synchronize(setting)
    return 1 / best if setting.device == "cpu" else calls / (time.perf_counter() - start)


def _synchronize(setting: Setting) -> None:
    if setting.device == "cuda":
        torch.cuda.synchronize()


def _resident_mb() -> float:
    """The most that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(contender: Contender, mode: str, setting: Setting) -> Row:
    """`measure_row` in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measure_row, contender, mode, setting).result()


def table(rows: list[Row]) -> str:
    """For reading: forward and training rates, and each row's speed-up over eager; GMAC/s compares unlike designs."""
    eager = {(r.net, r.library, r.note): r for r in rows if r.mode == "eager"}
    heads = ["net", "library", "encoder", "mode", "params M", "GMACs", "fwd im/s", "GMAC/s", "train im/s", "x eager"]
    cells = []
    for r in rows:
        base = eager.get((r.net, r.library, r.note))
        cells.append(
            [
                *(r.net, r.library, r.note, r.mode),
                f"{r.parameters_m:.2f}",
                f"{r.gmacs:.2f}",
                f"{r.forward:.2f}",
                f"{r.forward * r.gmacs:.0f}",
                f"{r.train:.2f}",
                ratio(r.train / base.train if base else None),
                f"{r.peak_mb:.0f}",
            ]
        )
    return aligned([*heads, "peak MB"], cells, left=4)


def described(setting: Setting) -> dict[str, object]:
    """The setting, and the device's name."""
    device = (
        torch.cuda.get_device_name() if setting.device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return {"device_name": device, "classes": CLASSES, **asdict(setting)}


@dataclass(frozen=True)
class Options:
    """The command's."""

    names: tuple[str, ...]
    device: str
    size: int
    batch: int | None
    seconds: float
    modes: tuple[str, ...]
    threads: int
    turns: int | None
    out: Path | None


def _checked(options: Options) -> Setting:
    for name in options.names:
        if name not in nets.list_nets():
            raise UserError(f"there is no net {name!r}{nearest(name, nets.list_nets())}")
    on_gpu = options.device == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise UserError("--device gpu, but torch sees no GPU: check nvidia-smi, or use --device cpu")
    if options.out is not None and not options.out.parent.is_dir():
        raise UserError(f"--json {options.out}: the folder {options.out.parent} does not exist")
    batch = options.batch or (16 if on_gpu else 2)
    return Setting("cuda" if on_gpu else "cpu", options.size, batch, options.seconds, options.threads)


def _by_turns(options: Options, setting: Setting) -> None:
    if setting.device != "cpu":
        raise UserError("--turns compares CPU seconds: use --device cpu")
    chosen = pairs(list(options.names) or nets.list_nets())
    if not chosen:
        raise UserError("--turns: no installed library has a net of the same design; pip install 'segrail[peers]'")
    click.echo(paired.HEADER)
    for pair in chosen:
        click.echo(paired.line(pair, CLASSES, setting.size, setting.batch, options.turns or 1))
    click.echo(f"\nmedians of {options.turns} turns on one thread, {setting.size} pixels, batch {setting.batch}")


@click.command(help="Measures NETS (default: all) and, where installed, nets of the same name and encoder.")
@click.argument("names", metavar="[NETS]...", nargs=-1)
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True)
@click.option("--size", type=click.IntRange(32), default=512, show_default=True, help="Image side, pixels.")
@click.option("--batch", type=click.IntRange(2), help="Images a step; default 2 on a CPU, 16 on a GPU.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="A measurement, after warm-up.")
@click.option("--mode", "modes", type=click.Choice(MODES), multiple=True, help="Repeatable; default: all three.")
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count() or 1, help="CPU threads; default: all cores.")
@click.option(
    "--turns",
    type=click.IntRange(1),
    help="Instead: CPU seconds of forward + backward beside nets of the same design, by turns, this many of each.",
)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Writes the rows there, too.")
@bundled(Options)
def main(options: Options) -> None:
    setting, out = _checked(options), options.out
    if options.turns is not None:
        _by_turns(options, setting)
        return
    order = [(c, mode) for c in contenders(list(options.names) or nets.list_nets()) for mode in options.modes or MODES]
    rows = []
    for contender, mode in (bar := tqdm(order, unit="row", disable=None)):
        bar.set_description(f"{contender.net} {contender.library} {mode}")
        rows.append(in_process(contender, mode, setting))
        if out is not None:  # after each row: an interrupted run keeps what it has measured
            found = {"setting": described(setting), "versions": provenance.versions()}
            atomic.write_json(out, found | {"rows": [asdict(row) for row in rows]})
    click.echo(table(rows))
    facts = {"torch": provenance.versions()["torch"], **described(setting)}
    click.echo("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))


if __name__ == "__main__":
    run(main, "python -m bench.nets")
