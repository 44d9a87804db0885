"""Files and options that no one would write: each is taken, or refused as a user's mistake; never a traceback."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.datasets.folder import load_spec
from ingest.errors import explain
from ingest.shards import manifest
from ingest.shards.reader import ShardSet
from pipeline import recipe as recipe_file
from tests.conftest import ROOT
from tests.faults.ledger import Tally
from tests.ingest.conftest import SPEC
from tests.ingest.forms.label_exports import EXPORTS, write_images
from tests.ingest.forms.test_label_forms import spec_file
from tests.ingest.forms.test_label_forms_faults import FILES, ingest_all
from tests.shard_folder import smooth_scene, write_shards
from train import config
from train.checkpoints import checkpoint
from train.predict import trained as predicting

Many = Callable[[int, int], int]
Start = Callable[[str, str], Tally]

SCALARS = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**20, 10**400, 0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"),
    "", "~", "x", "a\nb", "\0", "../..", "/", "x" * 5000, "1e400", "[z-a]", "é\ud800", "train", "enet", "255", "<b>",
]  # fmt: skip
ODD = st.recursive(
    st.sampled_from(SCALARS) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything within nested dicts and lists."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """The value with up to three places replaced by something odd, removed, renamed or repeated."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([place for place in places(value) if place] or [("x",)]))
        holder = value
        for key in above:
            holder = holder[key]
        if not isinstance(holder, (dict, list)) or (isinstance(holder, dict) and last not in holder):
            return draw(ODD)
        way = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
        if way == "remove":
            del holder[last]
        elif way == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=6))] = holder.pop(last)
        elif way == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = draw(ODD)
    return value


def run(made: Any, examples: int, attempt: Callable[[Any], object], tally: Tally) -> None:
    """attempt(example) for each: it passes, or raises what the command line tells in one line."""

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(made)
    def one(example: Any) -> None:
        try:
            attempt(example)
            tally.survived += 1
        except Exception as error:
            told = explain(error)
            what = f"{type(error).__name__}: {str(error)[:200]} for {str(example)[:300]!r}"
            tally.refused(told is not None and "\n" not in told[0] and len(told[0]) < 2100, what)

    one()


RECIPE = config.to_dict(config.load("scenes_enet"))


def test_recipes(tally: Start, many: Many) -> None:
    run(changed(RECIPE), many(60, 2500), config.parse, tally("Fuzz", "recipes"))


def text_of(value: Any) -> st.SearchStrategy[str]:
    """YAML text of changed values, or with pieces of text put in."""

    @st.composite
    def made(draw: st.DrawFn) -> str:
        try:
            text = yaml.safe_dump(draw(changed(value)))
        except Exception:  # what YAML cannot write
            text = yaml.safe_dump(value)
        if draw(st.booleans()):
            at = draw(st.integers(0, len(text)))
            odd = ["!!bool z", "!!int x", "!!timestamp x", "!!python/object:os.system x", "[" * 3000, "9" * 5000,
                   "&a *a", "<<: x", "\t", "? ", "%", "\0", "{", "- ", ": ", "!!binary $"]  # fmt: skip
            text = text[:at] + draw(st.sampled_from(odd) | st.text(max_size=6)) + text[at:]
        return text

    return made()


def test_recipe_files(tally: Start, many: Many, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"

    def attempt(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        config.load(str(path))

    run(text_of(RECIPE), many(20, 800), attempt, tally("Fuzz", "recipe files"))


def test_overrides(tally: Start, many: Many) -> None:
    keys = [".".join(map(str, place)) for place in places(RECIPE) if place]
    words = st.sampled_from([str(value) for value in SCALARS] + ["{name: x}", "[1,2", "!!int x", "*a", "[[]]"])
    override = st.builds(lambda key, value: f"{key}={value}", st.sampled_from(keys) | st.text(max_size=9), words)
    run(override, many(60, 2500), lambda one: config.load("scenes_enet", [one]), tally("Fuzz", "overrides"))


def test_specs(tally: Start, many: Many, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    whole = yaml.safe_load(SPEC) | {"range": [0, 255], "bands": [1, 2, 3]}

    def attempt(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        load_spec(str(path))

    attempt(yaml.safe_dump(whole))  # sound: what is changed is what is refused

    run(text_of(whole), many(60, 1500), attempt, tally("Fuzz", "dataset specs"))


@pytest.mark.parametrize("form", sorted(FILES))
def test_annotation_files(form: str, tally: Start, many: Many, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = spec_file(raw, EXPORTS[form](raw))
    path = raw / FILES[form]
    text = path.read_text()

    @st.composite
    def cut_in(draw: st.DrawFn) -> str:
        at, length = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 2, 9, 100]))
        odd = st.sampled_from(["-1", "1e400", "null", "9" * 5000, "[]", '""', "\0", "<", "&x;", "NaN"]) | st.text(
            max_size=4
        )
        return text[:at] + draw(odd) + text[at + length :]

    made: st.SearchStrategy[str] = cut_in()
    if path.suffix == ".json":
        made = made | changed(json.loads(text)).map(json.dumps)

    def attempt(content: str) -> None:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        ingest_all(raw, spec)

    run(made, many(8, 200), attempt, tally("Fuzz", f"annotation files: {form}"))


def test_manifests(tally: Start, many: Many, tmp_path: Path) -> None:
    """dataset.json and a shard's record, also of folders from before either had a sum."""
    folder = write_shards(tmp_path / "s", {"train": [smooth_scene(24, 24, seed) for seed in range(3)]}, schema=1)
    count = tally("Fuzz", "dataset.json and a shard's record")
    for name, opened in (
        ("dataset.json", lambda _: ShardSet(folder, "train")),
        ("train-000000.json", lambda _: manifest.load_shard(folder, "train-000000")),
    ):
        path = folder / name
        whole = path.read_text()

        def attempt(value: Any, path: Path = path, opened: Callable[[Any], Any] = opened) -> None:
            path.write_text(json.dumps(value))
            opened(value)

        run(changed(json.loads(whole)), many(40, 800), attempt, count)
        path.write_text(whole)


def test_checkpoints(tally: Start, many: Many, tmp_path: Path, trained: Path) -> None:
    """A sound file of odd contents, as another program or version may write one."""
    state = dict(checkpoint.load(trained))
    facts = {key: state[key] for key in ("step", "config", "dataset")}
    weights = state["model"]
    path = tmp_path / "x.pt"

    def attempt(value: Any) -> None:
        if not isinstance(value, dict):
            value = {"model": value}
        buffer = io.BytesIO()
        torch.save({"format": checkpoint.FORMAT, "model": weights, **value}, buffer)
        path.write_bytes(buffer.getvalue())
        predicting.load(path, "cpu")

    run(changed(facts), many(12, 500), attempt, tally("Fuzz", "checkpoints"))


def test_the_shipped_recipes_are_sound() -> None:
    """What is changed above is taken when it is not changed."""
    assert config.to_dict(config.parse(copy.deepcopy(RECIPE))) == RECIPE
    assert recipe_file.shipped() and (ROOT / "train" / "recipes").is_dir()
