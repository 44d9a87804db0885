"""`python -m train.evaluate`: its options. What they set off is in `train.evaluate.scoring`, which needs torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from pipeline.options import bundled
from train.evaluate.order import BENCHMARKS, Order
from train.predict.options import inference_options


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
@click.option("--json", type=click.Path(path_type=Path), help="Write the scores and the confusion matrix.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write an HTML page: scores, confusions with crops, suspected label errors, calibration, images.",
)
@click.option("--submission", type=click.Choice(BENCHMARKS), help="Also write what that benchmark asks for.")
@click.option(
    "--submission-file", type=click.Path(path_type=Path), help="Its archive.  [default: NAME-SPLIT.zip or .tgz here]"
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a PNG of image | label | prediction | error.")
@click.option("-n", "count", type=click.IntRange(1), default=8, show_default=True, help="Images on the sheet.")
@bundled(Order)
def command(order: Order) -> None:
    """Score a checkpoint on a split: IoU, Dice and recall per class, their means, accuracies, calibration.

    Each image is taken exactly once and at its own size, also under
    `torchrun --nproc-per-node N -m train.evaluate ...`, with the same digits. The 95% interval says where the score
    would lie on another draw of as many images (1,000 bootstrap draws). With --submission the split may also be one
    without labels, which is not scored.
    """
    import_module("train.evaluate.scoring").score(order)
