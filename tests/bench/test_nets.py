"""bench.nets: rows that add up, peers of the same encoder, mistakes refused before anything is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import nets
from bench import nets as bench_nets
from bench.peers import contenders, pairs
from bench.rows.pairs import median_ratio
from ingest.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SETTING = bench_nets.Setting("cpu", size=64, batch=2, seconds=0.01, threads=1)


def test_a_row_is_measured() -> None:
    (ours,) = contenders(["enet"])
    row = bench_nets.measure_row(ours, "channels-last", SETTING)
    assert (row.net, row.library, row.mode) == ("enet", "segrail", "channels-last")
    assert row.parameters_m == pytest.approx(0.362, abs=0.001)
    assert row.forward > 0 and row.train > 0 and row.gmacs > 0


def test_every_net_is_listed_and_pairs_are_complete() -> None:
    found = contenders(nets.list_nets())
    assert {c.net for c in found if c.library == "segrail"} == set(nets.list_nets())
    assert ("fcn", "torchvision") in {(c.net, c.library) for c in found}


@pytest.mark.peers
def test_smp_stands_beside_ours() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    beside = {c.net for c in contenders(nets.list_nets()) if c.library == "smp"}
    assert beside == {"deeplabv3plus", "pspnet", "unet", "upernet"}


def test_table_gives_the_gain_over_eager() -> None:
    eager = bench_nets.Row("enet", "segrail", "its own", "eager", 0.36, 2.0, 10.0, 4.0, 100.0)
    faster = bench_nets.Row("enet", "segrail", "its own", "compiled", 0.36, 2.0, 30.0, 10.0, 80.0)
    lines = bench_nets.table([eager, faster]).splitlines()
    assert len({len(line) for line in lines}) == 1  # columns line up
    assert lines[2].split()[-2] == "2.50"


@pytest.mark.peers
def test_by_turns_beside_a_net_of_the_same_design() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    assert {ours.net for ours, _ in pairs(nets.list_nets())} == {"deeplabv3plus", "fcn", "unet", "upernet"}
    arguments = ["unet", "--size", "64", "--batch", "2", "--turns", "2"]
    result = CliRunner().invoke(bench_nets.main, arguments, catch_exceptions=False)
    header, row, *_ = result.output.splitlines()
    assert header.split()[:2] == ["net", "beside"] and row.split()[:2] == ["unet", "smp"]
    ours, theirs, ratio, per_mac = map(float, row.split()[-4:])
    assert ours > 0 and theirs > 0 and per_mac == pytest.approx(ratio, abs=0.01)  # the same multiply-adds
    assert median_ratio([1.0, 3.0, 9.0], [2.0, 3.0, 3.0]) == 1.0


def test_mistakes_are_refused(tmp_path: Path) -> None:
    for arguments, words in (
        (["enets"], "did you mean 'enet'"),
        (["enet", "--json", str(tmp_path / "nowhere" / "out.json")], "does not exist"),
    ):
        result = CliRunner().invoke(bench_nets.main, arguments)
        assert isinstance(result.exception, UserError)
        assert words in str(result.exception)


@pytest.mark.slow
def test_command_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["enet", "--size", "64", "--seconds", "0.01", "--mode", "eager", "--threads", "1", "--json", str(out)]
    done = subprocess.run([sys.executable, "-m", "bench.nets", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    assert written["rows"][0]["net"] == "enet"
    assert written["setting"]["size"] == 64
    assert "enet" in done.stdout
