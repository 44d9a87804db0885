"""`python -m train.evaluate`: options, and what is told of the scores."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from ingest.errors import UserError
from ingest.shards import pictures
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count as counted
from pipeline.feeding import Feeding, available_threads, for_split
from pipeline.loader import EvalLoader
from train import backends, config, model
from train.checkpoints import checkpoint
from train.distributed import ranks
from train.evaluate.boundary import Width
from train.evaluate.evaluation import evaluate
from train.evaluate.measures import Measures, Wanted
from train.evaluate.metrics import MeanOver
from train.evaluate.submission import FORMS, Submission, predict
from train.predict.options import Asked, inference, inference_options


@click.command(context_settings={"max_content_width": 110})
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--data", help="Shard folder.  [default: the one it was trained on]")
@click.option("--split", default="val", show_default=True, help="Split to score; it must have labels.")
@inference_options(["whole", "sliding"], "whole")
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images of one size at a time."
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@click.option(
    "--mean-over",
    type=click.Choice(["union", "labels", "all"]),
    default="union",
    show_default=True,
    help="Classes of the mean: in labels or predictions (as Cityscapes), in labels, or all (as VOC and ADE20K).",
)
@click.option("--boundary", metavar="WIDTH", help="Score outlines too, within 3px or 2% (of the diagonal).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the scores and the confusion matrix.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write an HTML page: scores, confusions with crops, suspected label errors, calibration, images.",
)
@click.option("--submission", type=click.Choice(sorted(FORMS)), help="Also write what that benchmark asks for.")
@click.option(
    "--submission-file", type=click.Path(path_type=Path), help="Its archive.  [default: NAME-SPLIT.zip or .tgz here]"
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a PNG of image | label | prediction | error.")
@click.option("-n", "count", type=click.IntRange(1), default=8, show_default=True, help="Images on the sheet.")
def command(
    path: str,
    data: str | None,
    split: str,
    batch_size: int,
    device: str,
    mean_over: MeanOver,
    boundary: str | None,
    json_path: Path | None,
    report: Path | None,
    submission: str | None,
    submission_file: Path | None,
    sheet: Path | None,
    count: int,
    how: Asked,
) -> None:
    """Score a checkpoint on a split: IoU, Dice and recall per class, their means, accuracies, calibration.

    Each image is taken exactly once and at its own size, also under
    `torchrun --nproc-per-node N -m train.evaluate ...`, with the same digits. The 95% interval says where the score
    would lie on another draw of as many images (1,000 bootstrap draws). With --submission the split may also be one
    without labels, which is not scored.
    """
    if sheet:
        pictures.check_name(sheet, "--sheet")
    if report and report.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {report}: a page is written, so give a name that ends in .html")
    wanted = Wanted(mean_over, Width.parse(boundary) if boundary else None, json_path, report, sheet, count)
    with ranks(device) as world:
        state = checkpoint.load_net(path, world.device)
        recipe = config.parse(state["config"])
        validated_on = recipe.data.val_path if split == recipe.data.val else ""
        shards = ShardSet(data or validated_on or recipe.data.path, split)
        model.check_classes(state["dataset"], shards.manifest)
        backends.set_tf32(recipe.train.tf32, world.device)
        net = model.from_checkpoint(state).to(world.device).to(memory_format=torch.channels_last)
        method = inference(state, world.device, how)
        threads = available_threads(world.local_world)
        feeding = Feeding(world.device, threads, rank=world.rank, ranks=world.world)
        loader = EvalLoader(shards, batch_size, for_split(feeding, "auto", shards))
        sent = Submission(submission, shards, submission_file) if submission else None
        if sent and not shards.labeled:
            images = predict(net, loader, world, method, sent)
            sent.finish(world)
            if world.is_main:
                click.echo(f"{counted(images, 'image')} without labels: {sent.path}")
            return
        measures = Measures(shards, world, wanted, [sent] if sent else [])
        found = evaluate(net, loader, world, method, measures.observers)
        name = state["config"].get("name") or state["config"]["net"]["name"]
        facts = {"checkpoint": path, "name": name, "step": state["step"], "data": str(shards.folder), "split": split}
        if sent:
            sent.finish(world)
        measures.tell(found, facts | {"method": method.describe()})
        if sent and world.is_main:
            click.echo(str(sent.path), err=True)
