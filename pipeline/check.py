"""A digest of the stream, so that two machines, versions or numbers of ranks can be compared.

Every batch has one digest per stage, in the order in which a sample comes to be: where two runs first differ says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from pipeline import balance, geometry, plan, versions
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader

PARTS = {
    "keys": "the order of the samples",
    "draws": "the random numbers",
    "matrices": "the geometry (arithmetic, libm or numpy)",
    "files": "the stored images and labels",
    "images": "the images' pixels (decoder, warp or blur)",
    "labels": "the labels' pixels (decoder or warp)",
}


def digest(shards: ShardSet, stream: Stream, batches: int, *, world: int, epoch: int, device: str) -> dict[str, Any]:
    """What the first `batches` global batches of an epoch are, as plain values.

    `world` ranks are made one after another in this process and put back together. Keys of the result: `dataset`,
    `recipe`, `versions`, `order` (of the epoch, hexadecimal), `batches` (each: epoch, position, and a digest per
    `PARTS`) and `all` (one digest of it all). UserError when the split cannot be trained on.
    """
    facts = shards.manifest.split(shards.split)
    feedings = [Feeding(device=torch.device(device), rank=rank, ranks=world) for rank in range(world)]
    ranks = [TrainLoader(shards, stream, feeding) for feeding in feedings]
    first = ranks[0]
    for loader in ranks:
        loader.load_state_dict({"epoch": epoch, "position": 0, "fingerprint": loader.fingerprint()})
    order = first.order(epoch)
    found = []
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(iter(loader))) for loader in ranks]
        for _ in range(batches):
            here, position = first.epoch, first.position
            made = [next(batches_of) for batches_of in streams]
            order = order if order.number == here else first.order(here)
            places = np.arange(position, position + first.global_batch)
            found.append({"epoch": here, "position": position, **_parts(first, order, places, made)})
    samples = first.order(epoch).samples
    weights = [part.weight for part in shards.parts]
    result = {
        "dataset": {
            "name": shards.manifest.name,
            "split": shards.split,
            "samples": len(shards),
            "shards": len(facts.shards),
            "fingerprint": _hash(shard.sha256.encode() for shard in facts.shards),
            **({"weights": weights} if any(weight != 1 for weight in weights) else {}),
        },
        "recipe": {**dataclasses.asdict(stream), "augment": stream.augment.stated(), "world": world, "epoch": epoch},
        "versions": versions.pixels(),
        "order": _hash([samples.astype("<i8").tobytes()]),
        "batches": found,
    }
    result["all"] = _hash([json.dumps([result["order"], found]).encode()])
    return json.loads(json.dumps(result))  # lists for tuples: as it comes back from a file


def _parts(loader: TrainLoader, order: balance.Epoch, places: np.ndarray, made: Sequence[Batch]) -> dict[str, str]:
    shards, stream, samples = loader.shards, loader.stream, order.samples[places]
    draws = balance.draws_of(shards, stream, order, places)
    matrices = geometry.matrices(draws, shards.sizes_hw[samples], stream.augment)
    labels = [batch.labels for batch in made]
    return {
        "keys": _hash(key.encode() + b"\n" for batch in made for key in batch.keys),
        "draws": _hash(getattr(draws, name).astype("<f8").tobytes() for name in _draws_of(stream)),
        "matrices": _hash([matrices.astype("<f8").tobytes()]),
        "files": _hash(content.tobytes() for i in samples for content in (shards.image(i), shards.label(i))),
        "images": _hash(batch.images.permute(0, 2, 3, 1).cpu().numpy().tobytes() for batch in made),
        "labels": _hash(label.cpu().numpy().tobytes() for label in labels if label is not None),
    }


def _draws_of(stream: Stream) -> list[str]:
    """Names of the random numbers that decide the stream: the newer ones only where the recipe uses any."""
    names = [field.name for field in dataclasses.fields(plan.Draws)]
    return names if len(stream.augment.stated()) > len(Augment().stated()) else names[: plan.FIRST]


def table(found: dict[str, Any]) -> str:
    """The digest for people."""
    dataset, recipe = found["dataset"], found["recipe"]
    augment = ", ".join(f"{key} {value}" for key, value in recipe["augment"].items())
    lines = [
        f"dataset   {dataset['name']}, split {dataset['split']}: {count(dataset['samples'], 'sample')} "
        f"in {count(dataset['shards'], 'shard')}, fingerprint {dataset['fingerprint']}"
        + (f", weights {dataset['weights']}" if "weights" in dataset else ""),
        f"stream    seed {recipe['seed']}, {recipe['world']} x {count(recipe['batch_size'], 'sample')} a batch, "
        f"shuffle_window {recipe['shuffle_window']}",
        f"augment   {augment}",
        f"versions  {', '.join(f'{name} {value}' for name, value in found['versions'].items())}",
        f"order     epoch {recipe['epoch']}: {found['order']}",
        "",
        "epoch position  " + "".join(f"{part:18}" for part in PARTS).rstrip(),
    ]
    lines += [
        f"{batch['epoch']:5} {batch['position']:8}  " + "".join(f"{batch[part]:18}" for part in PARTS).rstrip()
        for batch in found["batches"]
    ]
    return "\n".join([*lines, "", f"all       {found['all']}"])


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Where two digests differ, the first cause first; an empty list: nowhere. UserError: `theirs` is no digest."""
    try:
        differences = [
            f"{section}.{key}: {_value(ours[section], key)} here, {_value(theirs[section], key)} there"
            for section in ("dataset", "recipe")
            for key in dict.fromkeys([*_dotted(ours[section]), *_dotted(theirs[section])])
            # Ranks and batch size only cut the stream: what counts is their product.
            if key not in ("name", "world", "batch_size") and _value(ours[section], key) != _value(theirs[section], key)
        ]
        sizes = [found["recipe"]["world"] * found["recipe"]["batch_size"] for found in (ours, theirs)]
        if sizes[0] != sizes[1]:
            differences.append(f"global batch: {sizes[0]} samples here, {sizes[1]} there")
        if ours["order"] != theirs["order"]:
            differences.append("the order of the epoch differs")
        for number, (mine, other) in enumerate(zip(ours["batches"], theirs["batches"], strict=False)):
            parts = [part for part in PARTS if mine[part] != other[part]]
            if parts:
                what = "; ".join(PARTS[part] for part in parts)
                differences.append(
                    f"batch {number} (epoch {mine['epoch']}, position {mine['position']}) is the first to differ, "
                    f"in {', '.join(parts)}: {what}"
                )
                break
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the file to compare with is no output of `pipeline check --json` ({error})") from error
    if differences:
        differences += [
            f"versions.{name}: {ours['versions'][name]} here, {theirs['versions'].get(name)} there"
            for name in ours["versions"]
            if ours["versions"][name] != theirs["versions"].get(name)
        ]
    return differences


def _dotted(section: dict[str, Any]) -> list[str]:
    return [
        f"{key}.{inner}" if inner else key
        for key, value in section.items()
        for inner in (value if isinstance(value, dict) else [""])
    ]


def _value(section: dict[str, Any], dotted: str) -> Any:
    """The value; of a key that is not there (it came later, and is off) the word default."""
    value: Any = section
    for part in dotted.split("."):
        if not isinstance(value, dict) or part not in value:
            return "default"
        value = value[part]
    return value


def _hash(parts: Iterable[bytes]) -> str:
    result = hashlib.sha256()
    for part in parts:
        result.update(part)
    return result.hexdigest()[:16]
