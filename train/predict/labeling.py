"""The work of `python -m train.predict`, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from ingest.errors import one_line
from ingest.shards.wording import count
from train import backends, config, model
from train.checkpoints import checkpoint
from train.distributed import Ranks, joined
from train.predict import depth, outlines
from train.predict.inputs import find
from train.predict.method import inference
from train.predict.options import Order
from train.predict.outputs import Output
from train.predict.raw import Reader
from train.predict.run import Done, run
from train.predict.scene import Labeler


def label(order: Order) -> int:
    """Labels what is asked for. The exit code: 1 where a file failed."""
    with joined(order.device) as ranks:
        state = checkpoint.load_net(order.path, ranks.device)
        facts = state["dataset"]
        recipe = config.parse(state["config"])
        items = find([*order.images, *order.more], order.split)
        output = Output.of(facts, order.out, order.overlay, order.extras)
        backends.set_tf32(recipe.train.tf32, ranks.device)
        net = model.from_checkpoint(state).to(ranks.device).to(memory_format=torch.channels_last)
        method = inference(state, ranks.device, order.how)
        named = f"{Path(order.path).resolve()} step {state['step']} {Path(order.path).stat().st_mtime_ns}"
        labeler = Labeler(net, ranks.device, method, recipe.augment.crop, len(facts["classes"]), named)
        reader = Reader.of(facts)
        auto = order.how.mode in (None, "auto")
        mine = items[ranks.rank :: ranks.count]
        done = run(mine, labeler, reader, output, auto, quiet=not ranks.is_main)
        code = _tell(ranks.gather(done), ranks, output)
        ranks.gather(None)  # the main rank has written: torchrun ends it as soon as another one exits with 1
        return code


def _tell(parts: list[Done], ranks: Ranks, output: Output) -> int:
    """Says what was written and what was not; the exit code."""
    failed = sorted(pair for part in parts for pair in part.failed)
    if not ranks.is_main:
        return 1 if failed else 0
    if output.polygons == "coco":
        annotated = {name: found for part in parts for name, found in part.annotations.items()}
        outlines.write_coco(output.folder / "polygons.json", annotated, list(output.classes))
    written = [
        name for name in ("masks", "overlays", "videos", "probabilities", "polygons") if (output.folder / name).is_dir()
    ]
    written += ["polygons.json"] if output.polygons == "coco" else []
    where = f": {output.folder}/{{{', '.join(written)}}}" if written else ""
    click.echo(f"{count(sum(part.written for part in parts), 'file')} labeled{where}")
    if largest := [value for part in parts for value in part.largest]:
        click.echo(depth.note(largest), err=True)
    if failed:
        click.echo(f"{count(len(failed), 'file')} failed:", err=True)
        for _, reason in failed:
            click.echo(f"  {one_line(reason)}", err=True)
    return 1 if failed else 0
