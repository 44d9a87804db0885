"""From a recipe, its dataset and perhaps a checkpoint to a run that is ready to train."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from timm.layers import convert_sync_batchnorm
from torch.nn.parallel import DistributedDataParallel

import nets
from ingest.errors import UserError
from ingest.shards import joined
from pipeline.config import stream_of
from pipeline.feeding import for_split, of_recipe
from pipeline.loader import EvalLoader, TrainLoader
from train import backends, graphs, length, model
from train.checkpoints import resume, start
from train.checkpoints.monitor import Monitor
from train.checkpoints.state import DatasetFacts, State, dataset_facts
from train.config import Recipe
from train.distributed import Ranks
from train.evaluate.metrics import ConfusionMatrix
from train.evaluate.validation import Validator, validation_shards
from train.losses import SegmentationLoss
from train.losses.class_weights import PixelCounts
from train.optim import optimizers
from train.optim.ema import Ema
from train.run import Run

# Running statistics are sent where they are used (`train.loop`), not before each step. torch is renaming the argument.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_OWN_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True)
class _Data:
    """What a run takes from the dataset."""

    facts: DatasetFacts
    counts: PixelCounts
    loader: TrainLoader
    validator: Validator | None


def run(recipe: Recipe, ranks: Ranks, folder: Path, state: State | None = None) -> Run:
    """state: the checkpoint to go on from; None starts anew. UserError when recipe, data and state do not fit."""
    backends.set_tf32(recipe.train.tf32, ranks.device)
    data = _data(recipe, ranks, state)
    facts = data.facts
    monitor = Monitor(recipe.train.monitor, facts["classes"], recipe.train.patience, recipe.train.keep_best)
    torch.manual_seed(recipe.seed)
    net, begun = _net(recipe, ranks, data, state)
    run = Run(
        recipe=recipe,
        ranks=ranks,
        folder=folder,
        facts=facts,
        loader=data.loader,
        validator=data.validator,
        length=length.of(recipe, data.loader.epoch_samples, data.loader.global_batch),
        net=net,
        ema=Ema(net, recipe.train.ema) if recipe.train.ema else None,
        optimizer=optimizers.for_net(recipe.optimizer, net, ranks.device),
        scaler=_scaler(recipe, ranks.device),
        loss=SegmentationLoss(recipe.loss, len(facts["classes"]), data.counts).to(ranks.device),
        monitor=monitor,
        begun_from=begun,
        counts=ConfusionMatrix(len(facts["classes"]), ranks.device) if recipe.train.train_miou else None,
    )
    if state is not None:
        run.load_state_dict(state)
    if ranks.count > 1:
        ranks.at("the start of training")
        run.ddp = _parallel(net, ranks.device)
    run.forward, run.loss_forward = _called(run)
    return run


def _called(run: Run) -> tuple[Any, Any]:
    """What a step calls in place of the net and the loss: compiled or captured, as the recipe says."""
    train, ranks, forward = run.recipe.train, run.ranks, run.ddp or run.net
    on_gpu = ranks.device.type == "cuda"
    idle = [key for key in ("cuda_graphs", "priority_stream") if getattr(train, key) and not on_gpu]
    if idle and ranks.is_main:
        click.echo(f"note: without a GPU {', '.join(f'train.{key}' for key in idle)}: no effect", err=True)
    graphed = train.cuda_graphs and on_gpu
    if graphed:
        graphs.check(ranks.count, run.accumulate)
    loss = torch.compile(run.loss) if train.compile == "loss" else run.loss
    if train.compile:
        return torch.compile(forward, mode="reduce-overhead" if graphed else None), loss
    if graphed:
        shape = (run.loader.batch_size, run.facts["channels"], *run.recipe.augment.crop)
        images = torch.zeros(shape, dtype=torch.uint8, device=ranks.device)
        memory = torch.channels_last if run.facts["channels"] > 1 else torch.contiguous_format
        dtype = model.amp_dtype(train.amp, ranks.device)
        return graphs.captured(run.net, images.to(memory_format=memory), dtype), loss
    return forward, loss


def _data(recipe: Recipe, ranks: Ranks, state: State | None) -> _Data:
    """Loaders of the recipe's splits. With a state each rank takes its share of the state's global batch."""
    data = recipe.data
    shards = joined.open_split(data.folders, data.train, data.staging_cache)
    facts = dataset_facts(shards.manifest)
    batch_size = data.batch_size
    if state is not None:
        resume.check(state)
        model.check_classes(state["dataset"], shards.manifest)
        batch_size = resume.batch_size(recipe, state, ranks.count)
    feeding = of_recipe(data, ranks.device, ranks.rank, ranks.count, ranks.local_count)
    stream = stream_of(recipe.seed, data, recipe.augment, batch_size)
    loader = TrainLoader(shards, stream, for_split(feeding, data.device, shards))
    validator = None
    if data.val:
        val_shards = validation_shards(data, shards.manifest)
        val_loader = EvalLoader(val_shards, data.val_batch_size, for_split(feeding, data.device, val_shards))
        validator = Validator(val_loader, ranks, recipe.train, facts, data)
    split = shards.manifest.split(data.train)
    return _Data(facts, PixelCounts(split.class_pixels, split.class_image_pixels), loader, validator)


def _net(recipe: Recipe, ranks: Ranks, data: _Data, state: State | None) -> tuple[nets.Segmenter, str]:
    """The net with its weights, on its device, as it will be trained; and what its weights start from, if anything."""
    train = recipe.train
    if state is None and train.init_from:
        net, begun = start.begin(recipe.net, data.facts, train.init_from)
    else:
        net = model.build(recipe.net, data.facts, state)
        source = nets.pretrained_source(net) if state is None else None
        begun = f"the encoder starts from {source}" if source else ""
    model.check_batch(net, recipe, data.loader.batch_size, ranks.count)
    if state is not None:
        model.load_weights(net, state["model"], recipe.net.name)
    memory = torch.channels_last if train.channels_last else torch.contiguous_format
    net = net.to(ranks.device).to(memory_format=memory)
    if train.sync_bn and ranks.count > 1:
        if ranks.device.type != "cuda":
            raise UserError("train.sync_bn = true needs GPUs: torch has no synchronized batch norm on CPUs")
        # timm's, since its batch norms contain the activation, which torch's conversion would drop.
        net = convert_sync_batchnorm(net)
    return net, begun


def _scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """Active with fp16 only."""
    return torch.amp.GradScaler(device.type, enabled=model.amp_dtype(recipe.train.amp, device) is torch.float16)


def _parallel(net: nets.Segmenter, device: torch.device) -> DistributedDataParallel:
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, device_ids=ids, gradient_as_bucket_view=True, **_OWN_BUFFERS)
