"""What a resumed run takes over from its checkpoint, and what must fit.

The recipe counts for everything that it may change on the way: the length, the learning rate, what is logged and
saved. What defines the run must stay: the net, the classes, the data stream, the optimizer, and the global batch.

The recipe's `data.batch_size` is per rank, the checkpoint holds the global batch, ranks x batch_size. A run that goes
on with another number of ranks keeps the global batch, and so its positions in the stream, its steps per epoch, its
learning rate: each rank takes global batch / ranks crops. Only batch norm notices (its statistics are each rank's).
"""

from __future__ import annotations

import torch

from ingest.errors import UserError
from train.checkpoints.state import BatchFacts, State
from train.config import Recipe

_KEYS = ("model", "optimizer", "scaler", "loader", "step", "monitor", "batch", "config", "dataset")


def check(state: State) -> None:
    """UserError when the checkpoint lacks what is needed to go on."""
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise UserError(
            f"the checkpoint cannot be resumed: it holds no {', '.join(missing)} (an older segrail wrote it); "
            "start a new run, without --resume"
        )


def batch_facts(batch_size: int, ranks: int, accumulate: int) -> BatchFacts:
    """For the checkpoint: the crops a step of all ranks (before accumulation), how many ranks, and the accumulation."""
    return {"global": batch_size * ranks, "ranks": ranks, "accumulate": accumulate}


def batch_size(recipe: Recipe, state: State, ranks: int) -> int:
    """Crops per rank and step with which `ranks` ranks go on from `state`. UserError when that cannot be."""
    was, mine, before = state["batch"], recipe.data.batch_size, state["config"]["data"]["batch_size"]
    whole = was["global"]
    trained = f"the checkpoint was trained with {whole} ({_times(was['ranks'], whole // was['ranks'])})"
    if recipe.optimizer.accumulate != was["accumulate"]:
        raise UserError(
            f"optimizer.accumulate = {recipe.optimizer.accumulate}, but the checkpoint was trained with "
            f"{was['accumulate']}: set it back to go on, or start a new run, without --resume"
        )
    if mine * ranks == whole:
        return mine
    if mine != before:
        raise UserError(
            f"data.batch_size = {mine} is a global batch of {mine * ranks} ({_times(ranks, mine)}), but {trained}: "
            f"leave data.batch_size = {before}, and the ranks share the {whole}; or start a new run, without --resume"
        )
    if whole % ranks:
        fitting = ", ".join(str(count) for count in range(1, whole + 1) if whole % count == 0)
        raise UserError(
            f"{ranks} ranks cannot share the global batch evenly: {trained}; go on with one of {fitting} ranks, "
            "or start a new run, without --resume"
        )
    return whole // ranks


def threads_note(state: State, threads: int) -> str | None:
    """On a CPU: what it means that the checkpoint was trained with another number of OpenMP threads; else None."""
    was = state.get("threads", threads)  # older checkpoints do not know
    if was == threads:
        return None
    return (
        f"note: the checkpoint was trained with {was} OpenMP threads a rank, this run has {threads}: the same crops "
        f"and steps, but sums in another order, so that weights differ in their last digits (OMP_NUM_THREADS={was} "
        "gives the very same)"
    )


def load_optimizer(optimizer: torch.optim.Optimizer, recipe: Recipe, state: State) -> None:
    """Takes over moments and step counts; learning rates, decay and the like are the recipe's.

    UserError when the checkpoint's optimizer is another one, or its groups hold other parameters.
    """
    was = state["config"]["optimizer"]["name"]
    if was != recipe.optimizer.name:
        raise UserError(
            f"optimizer.name = {recipe.optimizer.name!r}, but the checkpoint was trained with {was!r}: set it back to "
            "go on, or start a new run, without --resume"
        )
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    theirs = [(group["name"], len(group["params"])) for group in state["optimizer"]["param_groups"]]
    ours = [(group["name"], len(group["params"])) for group in optimizer.param_groups]
    if theirs != ours:
        raise UserError(
            f"the checkpoint trains other groups of parameters ({_groups(theirs)}) than the recipe ({_groups(ours)}): "
            "set net.freeze_* and optimizer.decay_norm_and_bias back to go on, or start a new run, without --resume"
        )
    optimizer.load_state_dict(state["optimizer"])
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)


def _times(ranks: int, batch: int) -> str:
    return f"{ranks} rank{'s' if ranks > 1 else ''} x {batch}"


def _groups(groups: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in groups)
