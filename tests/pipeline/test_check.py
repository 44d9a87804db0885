"""`python -m pipeline check`: equal streams give equal digests, and a difference is put down to its cause."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import check, recipe
from pipeline.__main__ import main
from pipeline.augment import Augment
from pipeline.config import Stream, load
from tests.shard_folder import smooth_scene, write_shards

STREAM = Stream(seed=3, batch_size=6, augment=Augment(crop=(32, 48), base_size=60))


def scenes(count: int = 14) -> list[tuple[np.ndarray, np.ndarray]]:
    sizes = [(60, 80), (81, 55), (64, 64)]
    return [smooth_scene(*sizes[i % 3], seed=i) for i in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("check"), {"train": scenes()})


def digest(folder: Path, stream: Stream = STREAM, batches: int = 3, world: int = 1, epoch: int = 0) -> dict:
    return check.digest(ShardSet(folder, "train"), stream, batches, world=world, epoch=epoch, device="cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_ranks_and_repetition_change_no_digest(folder: Path) -> None:
    one = digest(folder)
    assert digest(folder) == one
    for world in (2, 3):
        other = digest(folder, Stream(3, 6 // world, augment=STREAM.augment), world=world)
        assert other["all"] == one["all"] and other["batches"] == one["batches"]
        assert check.compare(other, one) == []


def test_a_window_of_shards_changes_the_order_alone(folder: Path) -> None:
    ours, theirs = digest(folder), digest(folder, Stream(3, 6, shuffle_window=1, augment=STREAM.augment))
    differences = check.compare(ours, theirs)
    assert differences[:2] == ["recipe.shuffle_window: 0 here, 1 there", "the order of the epoch differs"]
    assert "batch 0 (epoch 0, position 0) is the first to differ, in keys" in differences[2]


def test_batches_go_on_into_the_next_epoch(folder: Path) -> None:
    found = digest(folder, batches=5)
    assert [(batch["epoch"], batch["position"]) for batch in found["batches"]] == [
        (0, 0), (0, 6), (1, 0), (1, 6), (2, 0),
    ]  # fmt: skip
    assert digest(folder, batches=1, epoch=1)["batches"][0] == found["batches"][2]


@pytest.mark.parametrize(
    ("other", "first", "parts"),
    [
        (Stream(4, 6, augment=STREAM.augment), "recipe.seed: 3 here, 4 there", "keys, draws, matrices"),
        (
            Stream(3, 6, augment=Augment(crop=(32, 48), base_size=60, rotate=5.0)),
            "recipe.augment.rotate: 10.0 here, 5.0 there",
            "matrices, images, labels",
        ),
        (
            Stream(3, 6, augment=Augment(crop=(32, 48), base_size=60, blur=0.0)),
            "recipe.augment.blur: 1.0 here, 0.0 there",
            "images",
        ),
    ],
)
def test_another_recipe_differs_where_it_should(folder: Path, other: Stream, first: str, parts: str) -> None:
    differences = check.compare(digest(folder), digest(folder, other))
    assert differences[0] == first
    assert any(f"batch 0 (epoch 0, position 0) is the first to differ, in {parts}" in line for line in differences)


@pytest.mark.parametrize(("which", "part"), [(0, "images"), (1, "labels")])
def test_other_pixels_are_told_from_another_order(folder: Path, tmp_path: Path, which: int, part: str) -> None:
    """One sample is stored with another image, or another label: the first batch that holds it is named."""
    changed = scenes()
    # sizes alone decide the geometry, and they stay
    changed[5][which][:] = 4
    theirs = digest(write_shards(tmp_path, {"train": changed}))
    differences = check.compare(digest(folder), theirs)
    assert "dataset.fingerprint" in differences[0]
    (line,) = [line for line in differences if line.startswith("batch")]
    assert f"in files, {part}:" in line
    number = int(line.split()[1])
    assert all(theirs["batches"][i] == digest(folder)["batches"][i] for i in range(number))


def test_versions_are_named_when_something_differs(folder: Path) -> None:
    ours, theirs = digest(folder), digest(folder)
    theirs["versions"]["numpy"] = "1.0"
    assert check.compare(ours, theirs) == [], "other versions are no difference in themselves"
    theirs["batches"][2]["images"] = "0" * 16
    differences = check.compare(ours, theirs)
    assert "batch 2" in differences[0] and "in images: the images' pixels" in differences[0]
    assert differences[1].startswith("versions.numpy: ") and differences[1].endswith("1.0 there")


def test_the_command_compares_and_says_so_by_its_exit_code(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("augment: {crop: [32, 48], base_size: 60}\ndata: {batch_size: 4}\nnet: {name: unet}\n")
    here = run("check", folder, "--cfg", recipe, "--batches", 2, "--json")
    assert here.exit_code == 0 and len(json.loads(here.stdout)["batches"]) == 2
    (tmp_path / "here.json").write_text(here.stdout)
    same = run("check", folder, "--cfg", recipe, "--world", 2, "--against", tmp_path / "here.json", "data.batch_size=2")
    assert same.exit_code == 0 and same.stdout.count("\n") > 14
    assert "equal to" in same.stderr and "the order of the epoch and 2 batches" in same.stderr
    other = CliRunner().invoke(
        main,
        ["check", str(folder), "--cfg", str(recipe), "--against", str(tmp_path / "here.json"), "seed=1"],
        standalone_mode=False,
    )
    assert other.return_value == 1
    assert "recipe.seed: 1 here, 0 there" in other.stderr and "the order of the epoch differs" in other.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "is no JSON file"),
        ("[1]", "is no output of"),
        ('{"batches": []}', "is no output"),
    ],
)
def test_a_file_to_compare_with_that_is_none(folder: Path, tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    result = run("check", folder, "--batches", 1, "--against", tmp_path / "x.json", "data.batch_size=2")
    assert isinstance(result.exception, UserError) and message in str(result.exception)


# --- the recipe's part that is the stream's ---


@pytest.mark.parametrize("name", recipe.shipped())
def test_recipes_mean_here_what_they_mean_in_training(name: str) -> None:
    from train import config

    overrides = ["augment.crop=[64,96]", "seed=7", "data.batch_size=3", "data.shuffle_window=2"]
    for given in ([], overrides):
        ours, theirs = load(name, given), config.load(name, given)
        assert (ours.seed, ours.augment) == (theirs.seed, theirs.augment)
        assert (ours.batch_size, ours.shuffle_window) == (theirs.data.batch_size, theirs.data.shuffle_window)


def test_without_a_recipe_the_defaults_are_those_of_training() -> None:
    from train import config

    ours, theirs = load(None), config.Recipe()
    assert (ours.seed, ours.augment) == (theirs.seed, theirs.augment)
    assert (ours.batch_size, ours.shuffle_window) == (theirs.data.batch_size, theirs.data.shuffle_window)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.crp=1", "names nothing that the data stream depends on; did you mean 'augment.crop'"),
        ("optimizer.lr=1", "names nothing that the data stream depends on"),
        ("augment.crop=5", "augment.crop = 5"),
        ("augment.rotate=.nan", "augment.rotate = nan: expected finite"),
        ("data.batch_size=0", "data.batch_size = 0: expected a whole number, 1 or more"),
        ("data.batch_size=x", "data.batch_size = 'x'"),
        ("seed=-1", "seed = -1"),
        ("seed=9223372036854775808", "seed = 9223372036854775808: expected a whole number of at most"),
        ("augment.blur=100000", "augment.blur = 100000.0: the largest sigma, expected 0..50"),
        ("seed", "is not key=value"),
        ("augment.blur=[", "not YAML"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load("scenes_enet", [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("augment: {crp: 1}", "unknown key 'augment.crp' = 1; did you mean 'augment.crop'"),
     ("augment: 5", "expected a section"),
     ("augmnt: {crop: 1}", "unknown key 'augmnt'; did you mean 'augment'"),
     ("data: {batchsize: 1}", "unknown key 'data.batchsize' = 1; did you mean 'data.batch_size'"),
     ("- 1", "holds list"), ("a: [", "not YAML")],
)  # fmt: skip
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load(str(tmp_path / "r.yaml"))
    assert message in str(error.value)
    with pytest.raises(UserError, match="did you mean 'scenes_enet'"):
        load("scenes_enett")
    with pytest.raises(UserError, match="does not exist"):
        load(str(tmp_path / "none.yaml"))
