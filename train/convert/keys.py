"""What each key of pytorch-segmentation's JSON config means in a recipe, in a recipe's order."""

from __future__ import annotations

import re

from train.convert.augment import augment
from train.convert.data import data
from train.convert.draft import Draft, Source
from train.convert.nets import net
from train.convert.optimizer import loss, optimizer, schedule
from train.convert.trainer import trainer


def translate(source: Source, draft: Draft) -> None:
    """Fills the draft."""
    _run_folder(source, draft)
    batch = data(source, draft)
    augment(source, draft)
    arch = net(source, draft)
    loss(source, draft)
    name = optimizer(source, draft, arch)
    schedule(source, draft, name)
    trainer(source, draft, batch)


def _run_folder(source: Source, draft: Draft) -> None:
    name = source.take("name", str, "run")
    plain = re.sub(r"[^\w.+=@-]+", "-", name).strip("-.")[:100] or "run"
    if plain != name:
        draft.note("name", name, f"names of runs have no such signs here: {plain}")
    draft.set("name", plain, "name")
    output = source.take("trainer.save_dir", str, "saved")
    draft.set("output", output.rstrip("/") or "/", "trainer.save_dir")
