"""bench.predict: both ways of windows give the same scores, rows that add up, mistakes refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import predict
from bench.predict import main, one_by_one
from ingest.errors import UserError
from train.predict.windows import Inference, segment


def test_the_command_measures_every_way(tmp_path: Path) -> None:
    arguments = ["--size", "64x96", "--window", "48", "--images", "2", "--rounds", "1", "--device", "cpu"]
    result = CliRunner().invoke(main, [*arguments, "--json", str(tmp_path / "p.json")], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads((tmp_path / "p.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names[0] == "net alone" and len(names) == 5 and all(name in result.output for name in names)
    for row in found["rows"]:
        pixels = 64 * 96 * (4 if "windows" in row["name"] else 1)
        assert row["megapixels_per_second"] == pytest.approx(row["images_per_second"] * pixels / 1e6)
    assert [row["ratio"] is None for row in found["rows"]] == [True, False, False, True, False]
    alone, masks = found["rows"][:2]
    assert masks["ratio"] == pytest.approx(masks["images_per_second"] / alone["images_per_second"])


@torch.inference_mode()
def test_windows_one_by_one_give_the_same_scores() -> None:
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 4, 3, padding=1)
    images = torch.rand(1, 3, 70, 90)
    how = Inference("off", window=(32, 40))
    assert (one_by_one(net, images, how) - segment(net, images, how)).abs().max() < 1e-5


def test_ways_that_disagree_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "one_by_one", lambda net, images, how: 2 * one_by_one(net, images, how))
    result = CliRunner().invoke(
        main, ["--size", "64", "--window", "48", "--images", "1", "--rounds", "1", "--device", "cpu"]
    )
    assert isinstance(result.exception, UserError) and "not comparable" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "enett"], "did you mean 'enet'"),
        (["--size", "8"], "64 pixels or more"),
        (["--window", "x"], "HEIGHTxWIDTH"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, [*arguments, "--device", "cpu"])
    assert isinstance(result.exception, UserError) and message in str(result.exception)
