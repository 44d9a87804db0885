"""What we have counted and trained ourselves (results.json), with where each number comes from."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import nets
from bench.results import runs
from bench.results.runs import Finished
from ingest.errors import UserError, nearest
from ingest.shards import atomic
from train import config

FILE = Path(__file__).parent / "results.json"

# Where a run was made, what it is called, and how it is fed and watched: the score does not depend on them.
_IRRELEVANT = (
    "name",
    "output",
    "seed",
    "data.path",
    "data.val_path",
    "data.threads",
    "data.prefetch",
    "data.device",
    "data.on_bad_sample",
    "train.device",
    "train.log_every",
    "train.pictures",
    "train.rank_timeout",
    "train.save_every_steps",
    "train.keep_every_steps",
    "train.val_every_steps",
    "train.val_every_epochs",
)
_BATCH = "data.batch_size"  # of a rank
_PATHS = ("net.backbone_weights", "train.init_from")


def load(path: Path = FILE) -> dict[str, Any]:
    """`nets`: key -> counts; `runs`: a list. UserError for a file of another form."""
    if not path.exists():
        return {"nets": {}, "runs": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(found["nets"], dict) and isinstance(found["runs"], list)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"{path} is damaged: take it back from version control") from error
    return found


def save(results: dict[str, Any], path: Path = FILE) -> None:
    """Runs in the order of their recipe, conditions and seed, so that a change is easy to review."""
    results["runs"].sort(
        key=lambda run: (run["recipe"], run["differs"] != {}, json.dumps(run["differs"]), run["seed"], run["date"])
    )
    atomic.write_json(path, results)


def recipe_of(found: Finished, asked: str | None) -> str:
    """The shipped recipe that a run trained: the one asked for, else the one it is named after. UserError for none."""
    name = asked or str(found.config.get("name", ""))
    if name not in config.shipped():
        given = f"--recipe {name}" if asked else f"{found.folder} is a run named {name!r}: say its recipe with --recipe"
        raise UserError(f"{given}: expected a shipped recipe{nearest(name, config.shipped())}")
    return name


def entry(found: Finished, recipe: str) -> dict[str, Any]:
    """A run as results.json holds it. Scores are shares, 0 to 1."""
    differs = differences(found, recipe)
    start = f"torchrun --nproc-per-node {found.ranks} -m train" if found.ranks > 1 else "python -m train"
    seed = found.config.get("seed", 0)
    given = differs | ({_BATCH: found.config["data"]["batch_size"]} if found.ranks > 1 else {})
    words = [f"--cfg {recipe}", *(shlex.quote(f"{key}={_shown(value)}") for key, value in given.items())]
    return {
        "recipe": recipe,
        "differs": differs,
        "command": " ".join([start, *words, *([f"seed={seed}"] if seed else [])]),
        "seed": seed,
        **found.outcome(),
        "minutes": round(found.minutes, 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime(found.started)),
    }


def add(results: dict[str, Any], new: dict[str, Any]) -> None:
    """Takes a run in, in place of one of the same recipe, conditions, seed, machine and commit."""
    same = ("recipe", "differs", "seed", "machine", "commit")
    results["runs"] = [run for run in results["runs"] if any(run[key] != new[key] for key in same)] + [new]


def differences(found: Finished, recipe: str) -> dict[str, Any]:
    """Dotted keys in which the run's recipe differs from the shipped one of today, with the run's values.

    Batches are compared as all ranks' together. Keys that either of the two does not know are left out.
    """
    as_shipped = config.load(recipe)
    net = as_shipped.net
    net.options = nets.all_options(net.name, net.options)  # as a run's config.yaml has them
    shipped, trained = _flat(config.to_dict(as_shipped)), _flat(found.config)
    differs = {key: value for key, value in trained.items() if key in shipped and value != shipped[key]}
    if trained.get(_BATCH, 0) * found.ranks == shipped[_BATCH]:
        differs.pop(_BATCH, None)
    if differs.get("net.backbone_weights"):
        differs.pop("net.pretrained", None)  # which they imply
    for length in ("train.steps", "train.epochs"):
        if differs.get(length) == 0:
            differs.pop(length)  # the other one is given
    if "net.options" in differs:  # only what differs in them
        other = {key: value for key, value in differs.pop("net.options").items() if value != net.options.get(key)}
        differs |= {f"net.options.{key}": value for key, value in other.items()}
    for key in _PATHS:
        if differs.get(key):
            differs[key] = "FILE"
    return {key: value for key, value in sorted(differs.items()) if key not in _IRRELEVANT}


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    """Sections' keys, dotted; what a key of theirs holds stays whole."""
    found: dict[str, Any] = {}
    for name, section in nested.items():
        found |= (
            {f"{name}.{key}": value for key, value in section.items()} if isinstance(section, dict) else {name: section}
        )
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read(folder: Path, asked: str | None) -> dict[str, Any]:
    """A finished run's folder as an entry."""
    found = runs.read(folder)
    return entry(found, recipe_of(found, asked))
