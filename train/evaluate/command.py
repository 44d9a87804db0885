"""`python -m train.evaluate`: options, and what is told of the scores."""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch

from ingest.shards import pictures
from ingest.shards.reader import ShardSet
from pipeline.feeding import Feeding, available_threads, for_split
from pipeline.loader import EvalLoader
from train import backends, config, model
from train.checkpoints import checkpoint
from train.distributed import ranks
from train.evaluate.evaluation import as_json, evaluate, table
from train.evaluate.showcase import Showcase
from train.evaluate.size import at_size


@click.command()
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--data", help="Shard folder.  [default: the one it was trained on]")
@click.option("--split", default="val", show_default=True, help="Split to score; it must have labels.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the scores and the confusion matrix.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a PNG of image | label | prediction | error.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images on the sheet, spread over the split.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images of equal size at a time."
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@click.option(
    "--amp", type=click.Choice(["auto", "bf16", "fp16", "off"]), help="Autocast.  [default: as trained; off on a CPU]"
)
def command(
    path: str,
    data: str | None,
    split: str,
    json_path: Path | None,
    sheet: Path | None,
    count: int,
    batch_size: int,
    device: str,
    amp: str | None,
) -> None:
    """Score a checkpoint on a split: per-class IoU, mIoU, pixel accuracy.

    Images are taken whole and at their own size, each exactly once, also under
    `torchrun --nproc-per-node N -m train.evaluate ...`.
    """
    if sheet:
        pictures.check_name(sheet, "--sheet")
    with ranks(device) as world:
        state = checkpoint.load_net(path, world.device)
        recipe = config.parse(state["config"])
        validated_on = recipe.data.val_path if split == recipe.data.val else ""
        shards = ShardSet(data or validated_on or recipe.data.path, split)
        model.check_classes(state["dataset"], shards.manifest)
        backends.set_tf32(recipe.train.tf32, world.device)
        net = model.from_checkpoint(state).to(world.device).to(memory_format=torch.channels_last)
        threads = available_threads(world.local_world)
        feeding = Feeding(world.device, threads, rank=world.rank, ranks=world.world)
        loader = EvalLoader(shards, batch_size, for_split(feeding, "auto", shards))
        showcase = Showcase(shards, count) if sheet else None
        found = evaluate(
            at_size(net, recipe.data),
            loader,
            world,
            amp or model.scoring_amp(state["config"]["train"]["amp"], world.device),
            showcase.look if showcase else None,
        )
        picture = showcase.sheet(world) if showcase else None
        if not world.is_main:
            return
        click.echo(table(found, shards.manifest.classes))
        if json_path:
            facts = {"checkpoint": path, "step": state["step"], "data": str(shards.folder), "split": split}
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(facts | as_json(found, shards.manifest.classes), indent=1) + "\n")
        if sheet and picture is not None:
            pictures.save(picture, sheet)
