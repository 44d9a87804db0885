"""The work of `python -m train.evaluate`, and what is said of it."""

from __future__ import annotations

from typing import cast

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
from train.distributed import joined
from train.evaluate.boundary import Width
from train.evaluate.evaluation import evaluate
from train.evaluate.measures import Measures, Wanted
from train.evaluate.metrics import MeanOver
from train.evaluate.order import Order
from train.evaluate.submission import Submission, predict
from train.predict.method import inference


def score(order: Order) -> None:
    """Scores a checkpoint on a split, and writes what is asked for."""
    if order.sheet:
        pictures.check_name(order.sheet, "--sheet")
    if order.report and order.report.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {order.report}: a page is written, so give a name that ends in .html")
    width = Width.parse(order.boundary) if order.boundary else None
    wanted = Wanted(cast(MeanOver, order.mean_over), width, order.json, order.report, order.sheet, order.count)
    with joined(order.device) as ranks:
        state = checkpoint.load_net(order.path, ranks.device)
        recipe = config.parse(state["config"])
        validated_on = recipe.data.val_path if order.split == recipe.data.val else ""
        shards = ShardSet(
            order.data or validated_on or recipe.data.folders[0].path, order.split, recipe.data.staging_cache
        )
        model.check_classes(state["dataset"], shards.manifest)
        backends.set_tf32(recipe.train.tf32, ranks.device)
        net = model.from_checkpoint(state).to(ranks.device).to(memory_format=torch.channels_last)
        method = inference(state, ranks.device, order.how)
        threads = available_threads(ranks.local_count)
        feeding = Feeding(ranks.device, threads, rank=ranks.rank, ranks=ranks.count)
        loader = EvalLoader(shards, order.batch_size, for_split(feeding, "auto", shards))
        sent = Submission(order.submission, shards, order.submission_file) if order.submission else None
        if sent and not shards.labeled:
            images = predict(net, loader, ranks, method, sent)
            sent.finish(ranks)
            if ranks.is_main:
                click.echo(f"{counted(images, 'image')} without labels: {sent.path}")
            return
        measures = Measures(shards, ranks, wanted, [sent] if sent else [])
        found = evaluate(net, loader, ranks, method, measures.observers)
        name = state["config"].get("name") or recipe.net.name
        facts = {
            "checkpoint": order.path,
            "name": name,
            "step": state["step"],
            "data": shards.parts[0].shown,
            "split": order.split,
        }
        if sent:
            sent.finish(ranks)
        measures.tell(found, facts | {"method": method.describe()})
        if sent and ranks.is_main:
            click.echo(str(sent.path), err=True)
