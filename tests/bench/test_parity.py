"""docs/parity.md: made of what was counted and trained, never behind it; runs are taken in with their provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.measuring import training
from bench.parity import __main__ as parity
from bench.parity import costs, page, results
from bench.results import runs
from ingest.errors import UserError
from tests.bench.run_folder import write_run
from tests.conftest import ROOT
from tests.shard_folder import smooth_scene, write_shards
from train import config


def test_the_page_is_that_of_the_results() -> None:
    known = results.load()
    assert set(known["nets"]) == {one.key for one in costs.load()}
    assert (ROOT / "docs" / "parity.md").read_text() == page.markdown(known), "python -m bench.parity"


def test_every_difference_of_a_net_is_explained() -> None:
    counted = results.load()["nets"]
    for one in costs.load():
        ours = counted[one.key]
        assert one.source or one.note, one.key
        assert (one.parameters is None and one.macs is None) == (not one.source), one.key
        # Sources round, some to whole millions; and some count norms and activations, too.
        digits = len(f"{one.parameters or 0:g}".partition(".")[2])
        close = one.parameters is None or abs(ours["parameters"] - one.parameters) <= 0.6 * 10**-digits
        close = close and (one.macs is None or ours["macs"] == pytest.approx(one.macs, rel=0.01))
        assert close or one.note, one.key


@pytest.mark.slow
def test_the_counts_are_those_of_the_nets() -> None:
    assert results.load()["nets"] == {one.key: costs.count(one) for one in costs.load()}, "python -m bench.parity"


def test_a_count_is_of_the_whole_input() -> None:
    cost = costs.count(costs.Stands("enet", 19, (64, 128)))
    assert cost["macs"] == pytest.approx(2 * costs.count(costs.Stands("enet", 19, (64, 64)))["macs"], abs=0.011)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(costs, "count", lambda one: {"parameters": 1.0, "macs": 2.0})
    (tmp_path / "docs").mkdir()

    def called(*words: str) -> str:
        arguments = ["--out", str(tmp_path / "docs" / "p.md"), "--results", str(tmp_path / "r.json")]
        done = CliRunner().invoke(parity.main, [*arguments, *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return (tmp_path / "docs" / "p.md").read_text()

    return called


def rows(shown: str, start: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith(start)]


def test_a_run_is_taken_in_with_what_it_was(call, tmp_path: Path) -> None:
    assert rows(call(), "| [camvid_enet]")[0][3] == "not run"
    given = ["data.threads=7", "data.path=elsewhere", "output=x", "train.pictures=0"]
    for seed, miou in ((0, 0.6), (1, 0.62)):
        recipe = config.load("camvid_enet", [*given, f"seed={seed}"])
        shown = call("--add", str(write_run(tmp_path / f"run{seed}", recipe, miou)))
    assert rows(shown, "| [camvid_enet]")[0][3:] == ["61.0 +- 1.4", "0, 1", "2", "the recipe as shipped"]
    one = rows(shown, "| `python -m train --cfg camvid_enet seed=1`")[0]
    assert one[1:] == ["1", "62.00", "90.00", "val", "2", "2 x Z, no GPU", "1970-01-01", "`abc`", "2.99"]

    # A run's config.yaml names all options of its net.
    recipe = config.load("camvid_enet", ["train.steps=9", "net.options={form: authors, decoder: true}"])
    found = results.entry(runs.read(write_run(tmp_path / "options", recipe, 0.4)), "camvid_enet")
    assert found["differs"] == {"net.options.form": "authors", "train.steps": 9}
    recipe = config.load("camvid_enet", ["net.options={form: paper, decoder: true}"])
    assert results.differences(runs.read(write_run(tmp_path / "all", recipe, 0.4)), "camvid_enet") == {}

    # Taken in again it takes its own place; other conditions have a row of their own.
    shown = call("--add", str(tmp_path / "run1"))
    assert len(rows(shown, "| `python")) == 2
    other = config.load("camvid_enet", ["train.epochs=5", "net.backbone_weights=/home/me/w.pth", "name=mine"])
    shown = call("--add", str(write_run(tmp_path / "other", other, 0.4)), "--recipe", "camvid_enet")
    lines = shown.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| [camvid_enet]"))
    assert '|  |  |  | 40.0 | 0 | 2 | `net.backbone_weights="FILE"`, `train.epochs=5' in lines[first + 1]
    assert "/home/me" not in shown and "train.epochs=5" in rows(shown, "| `python")[-1][0]


def test_batches_are_compared_as_all_ranks_together(tmp_path: Path) -> None:
    shipped = config.load("ade20k_pspnet", ["data.batch_size=4"])
    folder = write_run(tmp_path / "a", shipped, 0.4, ranks=4, gpu="H100")
    found = results.entry(runs.read(folder), "ade20k_pspnet")
    assert found["differs"] == {} and found["machine"] == "4 x H100; 2 x Z"
    assert found["command"] == "torchrun --nproc-per-node 4 -m train --cfg ade20k_pspnet data.batch_size=4"
    folder = write_run(tmp_path / "b", shipped, 0.4)
    assert results.entry(runs.read(folder), "ade20k_pspnet")["differs"] == {"data.batch_size": 4}


def test_run_trains_each_seed_and_fills_the_row(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write_shards(tmp_path / "shards", {"train": [smooth_scene(40, 56, 0)]})
    made = []

    def train(recipe: str, overrides: Sequence[str], name: str) -> Path:
        made.append((recipe, list(overrides), name))
        return write_run(tmp_path / name, config.load(recipe, [*overrides, f"name={name}"]), 0.5)

    monkeypatch.setattr(parity, "in_process", train)
    shown = call("--run", "voc_pspnet", "--seeds", "2", f"data.path={shards}")
    assert made[1] == ("voc_pspnet", [f"data.path={shards}", "seed=1"], "voc_pspnet-s1")
    assert rows(shown, "| [voc_pspnet]")[0][3:5] == ["50.0 +- 0.0", "0, 1"]
    known = json.loads((tmp_path / "r.json").read_text())
    assert [run["seed"] for run in known["runs"]] == [0, 1] and known["runs"][0]["versions"]["torch"] == "2.99"


@pytest.mark.parametrize(("gpus", "expected"), [(1, []), (4, ["data.batch_size=4"])])
def test_gpus_share_the_batch(gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert parity._batch(16, ()) == expected
    assert parity._batch(16, ("data.batch_size=3",)) == []
    words = training.command("voc_pspnet", ["a=1"])
    assert words[-5:] == ["-m", "train", "--cfg", "voc_pspnet", "a=1"]
    assert ("--nproc-per-node" in words) == (gpus > 1)


def test_mistakes(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = write_run(tmp_path / "named", config.load("camvid_enet", ["name=mine"]), 0.4)
    unscored = write_run(tmp_path / "unscored", config.load("camvid_enet"), None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    shards = write_shards(tmp_path / "shards", {"train": [smooth_scene(40, 56, 0)]})
    for words, message in (
        (["--run", "camvid_enett"], "--run camvid_enett: expected a shipped recipe; did you mean 'camvid_enet'"),
        (
            ["--run", "camvid_enet"],
            "data.path = shards/camvid: no shards there .shards/camvid does not exist.: give data.path=FOLDER, or make "
            "them: python -m ingest folder CAMVID --spec camvid --image-format png --out shards/camvid$",
        ),
        (["--run", "voc_pspnet", f"data.path={shards}"], "data.batch_size = 16 cannot be shared by 3 GPUs"),
        (["--run", "voc_pspnet", "train.step=5"], "did you mean 'train.steps'"),
        (["--add", str(named)], "is a run named 'mine': say its recipe with --recipe"),
        (["--add", str(unscored)], "holds no finished run: no validation.json"),
        (["--add", str(tmp_path / "nowhere")], "nowhere does not exist"),
        (["train.steps=5"], "overrides are those of --run RECIPE"),
        (["--out", "no/page.md"], "the folder no does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            call(*words)
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(UserError, match=r"r\.json is damaged"):
        call()
