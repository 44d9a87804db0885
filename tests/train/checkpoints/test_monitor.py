"""What is the best, what stays of it, and when to stop; the same after a resume and on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ingest.errors import UserError
from train import build, config, loop
from train.checkpoints import checkpoint
from train.checkpoints.monitor import Monitor
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation
from train.evaluate.metrics import scores
from train.run import Run

ONE = Ranks(0, 1, 0, 1, torch.device("cpu"))
CLASSES = ["road", "car"]


def found(hits: int, loss: float | None = 1.0, cars: bool = True) -> Evaluation:
    """An evaluation in which `hits` of 100 road pixels are right; the others are taken for cars."""
    return Evaluation(scores(torch.tensor([[hits, 100 - hits], [0, 50 if cars else 0]])), 1, 1.0, loss)


def saved(folder: Path) -> dict[str, int]:
    """Checkpoint name -> the step it holds."""
    return {path.stem: checkpoint.load(path)["step"] for path in (folder / "checkpoints").glob("*.pt")}


def test_each_score_has_its_direction() -> None:
    for name, good, bad in [
        ("miou", found(90), found(50)),
        ("pixel_accuracy", found(90), found(50)),
        ("iou/road", found(90), found(50)),
        ("loss", found(50, loss=0.5), found(50, loss=0.9)),
    ]:
        monitor = Monitor(name, CLASSES)
        assert monitor.update(bad, 1) and monitor.update(good, 2) and not monitor.update(bad, 3)
        assert not monitor.update(good, 4)  # of equals the first
        assert monitor.best is not None and (monitor.best.step, monitor.best.value) == (2, monitor.value(good))
        assert monitor.best.miou == good.scores.miou


def test_the_k_best_stay() -> None:
    monitor = Monitor("miou", CLASSES, keep=2)
    for step, hits in enumerate([50, 70, 60, 40, 80], start=1):
        monitor.update(found(hits), step)
        assert monitor.names(step) == {1: ["best-1", "best"], 2: ["best-2", "best"], 3: ["best-3"], 4: []}.get(
            step, ["best-5", "best"]
        )
    assert monitor.kept_steps == [5, 2]
    single = Monitor("miou", CLASSES)
    single.update(found(50), 1)
    assert single.names(1) == ["best"] and single.names(2) == []


def test_missing_and_infinite_scores_are_never_the_best() -> None:
    monitor = Monitor("loss", CLASSES, patience=2)
    assert not monitor.update(found(50, loss=float("nan")), 1) and not monitor.exhausted
    assert not monitor.update(found(50, loss=None), 2) and monitor.exhausted
    assert "none had a value" in monitor.reason()
    absent = Monitor("iou/car", CLASSES)
    assert not absent.update(found(100, cars=False), 1)


def test_patience_survives_the_checkpoint() -> None:
    monitor = Monitor("miou", CLASSES, patience=3, keep=2)
    for step, hits in enumerate([50, 70, 60, 65], start=1):
        monitor.update(found(hits), step)
    other = Monitor("miou", CLASSES, patience=3, keep=2)
    assert other.load_state_dict(monitor.state_dict())
    assert other.may_end and not other.exhausted
    for each in (monitor, other):
        each.update(found(70), 5)
        assert each.exhausted and "at step 2" in each.reason()
    assert other.state_dict() == monitor.state_dict()
    assert not Monitor("loss", CLASSES).load_state_dict(monitor.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [("mIoU", "did you mean 'miou'"), ("iou/cars", "did you mean 'iou/car'"), ("f1", "Choices: miou, pixel_accuracy")],
)
def test_unknown_scores_are_named(raw_recipe: dict, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Monitor(name, CLASSES)
    if not name.startswith("iou/"):  # the classes are known later
        with pytest.raises(UserError, match=r"train\.monitor"):
            config.parse(raw_recipe | {"train": raw_recipe["train"] | {"monitor": name}})


def test_patience_without_validation_is_refused(raw_recipe: dict) -> None:
    raw_recipe["data"]["val"] = ""
    raw_recipe["train"]["patience"] = 2
    with pytest.raises(UserError, match="needs validations"):
        config.parse(raw_recipe)


def scripted(run: Run, losses: dict[int, float]) -> Run:
    """The run's validations give these losses, by step."""
    assert run.validator is not None
    score = run.validator.score

    def fake(*arguments: Any, **options: Any) -> Evaluation:
        real = score(*arguments, **options)
        return Evaluation(real.scores, real.images, real.seconds, losses[run.step])

    run.validator.score = fake  # type: ignore[method-assign]
    return run


def test_a_run_keeps_and_stops_as_told(raw_recipe: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Also when it is interrupted on the way: the counter, the best and the list of kept ones go on."""
    raw_recipe["train"] = {"steps": 9, "val_every_steps": 1, "keep_every_steps": 2, "device": "cpu"}
    raw_recipe["train"] |= {"monitor": "loss", "patience": 3, "keep_best": 2, "log_every": 50}
    losses = {1: 0.9, 2: 0.5, 3: 0.6, 4: 0.4, 5: 0.45, 6: 0.7, 7: 0.8, 8: 0.1, 9: 0.1}
    kept = {"best": 4, "best-4": 4, "best-5": 5, "last": 7, "step-2": 2, "step-4": 4, "step-6": 6}
    whole = loop.train(scripted(build.run(config.parse(raw_recipe), ONE, tmp_path / "whole"), losses))
    assert whole.early and whole.step == 7 and whole.stopped_by is None
    assert saved(tmp_path / "whole") == kept
    assert "stopped early at step 7: 3 validations without a better loss" in capsys.readouterr().out

    raw_recipe["train"]["steps"] = 5
    loop.train(scripted(build.run(config.parse(raw_recipe), ONE, tmp_path / "cut"), losses))
    raw_recipe["train"]["steps"] = 9
    state = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.pt")
    rest = loop.train(scripted(build.run(config.parse(raw_recipe), ONE, tmp_path / "cut", state), losses))
    assert rest.early and rest.step == 7
    assert saved(tmp_path / "cut") == kept

    # and once more: nothing is left to do, nothing is done
    state = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.pt")
    again = build.run(config.parse(raw_recipe), ONE, tmp_path / "cut", state)
    assert again.done and loop.train(again).step == 7
    assert saved(tmp_path / "cut") == kept


def test_equal_files_share_their_disk_space(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 2, "val_every_steps": 2, "keep_best": 2, "keep_every_steps": 2}
    loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run"))
    files = list((tmp_path / "run" / "checkpoints").iterdir())
    assert {path.name for path in files} == {"best.pt", "best-2.pt", "last.pt", "step-2.pt"}
    assert len({path.stat().st_ino for path in files}) == 1
