"""The loop learns, resumes bit for bit, survives a full disk, and stops at NaN with the last good checkpoint."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ingest.errors import UserError
from train import build, config, loop, model
from train.checkpoints import checkpoint
from train.distributed import Ranks, joined
from train.evaluate.evaluation import evaluate
from train.evaluate.metrics import ConfusionMatrix
from train.log.summary import Summary
from train.log.tracking import Tracker
from train.log.window import Window
from train.report import build as report
from train.run import Run


@pytest.fixture
def ranks():
    with joined("cpu") as found:
        yield found


def start(raw: dict[str, Any], ranks: Ranks, folder: Path, state: dict[str, Any] | None = None) -> tuple[Run, Summary]:
    run = build.run(config.parse(raw), ranks, folder, state)
    return run, loop.train(run)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def log(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_a_run_learns_and_leaves_its_folder(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 24, "val_every_steps": 12, "log_every": 4}
    raw_recipe["optimizer"] = {"name": "adamw", "lr": 0.005}
    folder = tmp_path / "run"
    _, summary = start(raw_recipe, ranks, folder)
    losses = [line["loss"] for line in log(folder, "train")]
    assert losses[-1] < 0.8 * losses[0]
    assert summary.step == 24 and summary.last is not None and 0 < summary.best_miou <= 1
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    assert [line["step"] for line in log(folder, "val")] == [12, 24]
    assert 0 <= summary.wait_share < 1 and summary.images_per_second > 0
    assert list(folder.glob("events.*"))
    validation = json.loads((folder / "validation.json").read_text())
    assert (validation["step"], validation["split"]) == (24, "val")
    assert validation["miou"] == summary.last.scores.miou and validation["loss"] == summary.last.loss
    train = log(folder, "train")[-1]
    expected = {"loss", "ce", "gradient_norm", "momentum", "memory_gb", "images_per_second", "data_wait_share"}
    assert expected <= train.keys() and 0 < train["memory_gb"] < 100 and train["momentum"] == 0.9
    assert {"miou", "loss", "pixel_accuracy", "iou/class0"} <= log(folder, "val")[-1].keys()
    assert (folder / "report.html").stat().st_size > 10_000 and (folder / "extremes" / "extremes.json").exists()


def test_the_host_waits_for_the_device_at_log_steps_only(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts what on a GPU would be a wait: tensors that become Python numbers.

    One a batch is the CPU's own: the loss looks for labels outside the classes, which on a GPU turns it NaN instead.
    """
    raw_recipe["train"] |= {"steps": 9, "val_every_steps": 99, "save_every_steps": 0, "log_every": 4}
    raw_recipe["train"] |= {"ema": 0.9, "train_miou": True}
    raw_recipe["data"]["val"] = ""
    raw_recipe["optimizer"] = {"name": "adamw", "lr": 0.01, "accumulate": 2, "clip_norm": 1.0}
    raw_recipe["schedule"] = {"name": "onecycle"}
    run = build.run(config.parse(raw_recipe), ranks, tmp_path / "run")
    waits: dict[int, int] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                waits[run.step] = waits.get(run.step, 0) + 1
            return function(*args, **(kwargs or {}))

    logged = []
    original = loop.Loop.log
    monkeypatch.setattr(loop.Loop, "log", lambda self: (logged.append(run.step), original(self)))
    with Watch():
        loop.train(run)
    assert logged == [4, 8, 9]
    # by the step at whose start or end they came: the label check of the step that follows, and the logging
    assert {step: count for step, count in waits.items() if step not in logged} == dict.fromkeys(
        [0, 1, 2, 3, 5, 6, 7], 2
    )
    assert all(waits[step] > 2 for step in (4, 8))


def test_the_training_miou_is_of_the_window(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 6, "val_every_steps": 99, "log_every": 3, "train_miou": True}
    run = build.run(config.parse(raw_recipe), ranks, tmp_path / "run")
    expected, counts, original = [], ConfusionMatrix(5, "cpu"), run.loss.forward

    def seen(logits: Any, labels: torch.Tensor) -> Any:
        if not run.loss.training:
            return original(logits, labels)
        counts.update(logits.out.argmax(1), labels)
        if run.step in (2, 5):
            expected.append(counts.result().miou)
            counts.reset()
        return original(logits, labels)

    run.loss.forward = seen  # type: ignore[method-assign]
    raw_recipe["train"]["save_every_steps"] = 0
    run.recipe.train.save_every_steps = 0
    loop.train(run)
    assert [line["miou"] for line in log(tmp_path / "run", "train")] == expected and len(expected) == 2


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resuming_is_bit_identical(raw_recipe: dict, ranks: Ranks, tmp_path: Path, stop: int) -> None:
    raw_recipe["optimizer"] = {"name": "adamw", "lr": 0.01}
    raw_recipe["train"]["ema"] = 0.9
    whole, _ = start(raw_recipe, ranks, tmp_path / "whole")
    short = build.run(config.parse(raw_recipe), ranks, tmp_path / "cut")
    original = short.one_step

    def stops(*arguments: Any) -> Any:
        if short.step == stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    short.one_step = stops  # type: ignore[method-assign]
    ended = loop.train(short)
    assert (ended.step, ended.stopped_by) == (stop, signal.SIGTERM)
    state = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.pt")
    rest, summary = start(raw_recipe, ranks, tmp_path / "cut", state)
    assert summary.step == 7
    assert same(weights(whole), weights(rest))
    last = [checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "cut")]
    assert last[0]["loader"] == last[1]["loader"] and last[0]["monitor"] == last[1]["monitor"]
    assert last[0]["ema"]["steps"] == 7 and same(last[0]["ema"]["average"], last[1]["ema"]["average"])


def test_best_holds_what_scored_and_evaluate_takes_it(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 6, "val_every_steps": 6, "ema": 0.9}
    raw_recipe["optimizer"] = {"name": "adamw", "lr": 0.02}
    run, summary = start(raw_recipe, ranks, tmp_path / "run")
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.pt")
    assert same(state["model"], weights(run))  # to go on from
    scored, average = model.from_checkpoint(state).state_dict(), state["ema"]["average"]
    assert same({name: scored[name] for name in average}, average)
    assert not any(torch.equal(average[name], state["model"][name]) for name in average if name.endswith("running_var"))
    net = model.from_checkpoint(state).to(memory_format=torch.channels_last)
    assert evaluate(net, run.validator.loader, ranks).scores == summary.last.scores
    assert evaluate(run.net, run.validator.loader, ranks).scores != summary.last.scores


def test_another_seed_gives_other_weights(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 1, "val_every_steps": 9}
    one, _ = start(raw_recipe, ranks, tmp_path / "a")
    two, _ = start(raw_recipe | {"seed": 1}, ranks, tmp_path / "b")
    assert not same(weights(one), weights(two))


def test_accumulated_batches_make_the_step_of_one_large_one(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    """Batch norm and dropout out of the way, 2 x 2 crops move the weights as 4 crops do.

    Not to the digit: each part is a mean over its own valid pixels. A forgotten part, or a sum in place of a mean,
    would be off by half and more.
    """
    raw_recipe["train"] |= {"steps": 1}
    moves = []
    for batch, accumulate in ((4, 1), (2, 2)):
        raw_recipe["data"] = raw_recipe["data"] | {"batch_size": batch, "val": ""}
        raw_recipe["optimizer"] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "accumulate": accumulate}
        run = build.run(config.parse(raw_recipe), ranks, tmp_path / str(batch))
        before = torch.cat([p.detach().flatten().clone() for p in run.net.parameters()])
        run.net.eval()
        run.net.train = lambda mode=True, net=run.net: net  # type: ignore[method-assign]
        for module in run.net.modules():
            if hasattr(module, "logits"):
                module.training = True  # typed output, statistics and dropout as in eval
        loop.train(run)
        moves.append(torch.cat([p.detach().flatten() for p in run.net.parameters()]) - before)
    assert (moves[1] - moves[0]).norm() < 0.25 * moves[0].norm()


def test_nan_stops_with_step_keys_and_a_checkpoint_from_before(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    run = build.run(config.parse(raw_recipe), ranks, tmp_path / "run")
    original = run.loss.forward

    def poisoned(logits: Any, labels: torch.Tensor) -> Any:
        loss, parts = original(logits, labels)
        bad = torch.tensor(float("nan") if run.step == 4 else 0.0)
        return loss + bad, {**parts, "loss": parts["loss"] + bad}

    run.loss.forward = poisoned  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"not finite at step 5 .*batch: train-.*last\.pt is from before"):
        loop.train(run)
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_a_full_disk_does_not_stop_the_run(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save", full)
    _, summary = start(raw_recipe, ranks, tmp_path / "run")
    assert summary.step == 7
    assert "could not be written (No space left on device)" in capsys.readouterr().out


def test_bfloat16_accumulation_and_clipping_resume_bit_for_bit(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["optimizer"] = {"lr": 0.05, "accumulate": 2, "clip_norm": 0.5}
    raw_recipe["train"] |= {"steps": 4, "amp": "bf16", "val_every_steps": 9}
    whole, _ = start(raw_recipe, ranks, tmp_path / "whole")
    raw_recipe["train"]["steps"] = 2
    raw_recipe["schedule"] = {"name": "constant"}
    start(raw_recipe, ranks, tmp_path / "cut")
    state = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.pt")
    raw_recipe["train"]["steps"] = 4
    rest, _ = start(raw_recipe, ranks, tmp_path / "cut", state)
    again, _ = start(raw_recipe, ranks, tmp_path / "again")
    assert same(weights(rest), weights(again)) and not same(weights(rest), weights(whole))
    assert state["batch"] == {"global": 4, "ranks": 1, "accumulate": 2}
    # the norm is of before clipping, of the averaged gradient of both parts
    assert all(line["gradient_norm"] > 0.5 for line in log(tmp_path / "again", "train"))


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
def test_a_step_never_waits_for_a_gpu(raw_recipe: dict, tmp_path: Path, amp: str) -> None:
    raw_recipe["train"] |= {"device": "gpu", "amp": amp, "steps": 8, "log_every": 99, "val_every_steps": 99}
    raw_recipe["train"] |= {"ema": 0.9, "train_miou": True, "save_every_steps": 0}
    raw_recipe["data"] |= {"val": ""}
    with joined("gpu") as place:
        run = build.run(config.parse(raw_recipe), place, tmp_path / "run")
        window = Window(place, 4, 1)
        batches = iter(run.loader)
        for step in range(4):
            if step == 2:  # the first steps tune, compile and allocate
                torch.cuda.set_sync_debug_mode("error")
            try:
                losses, norm = run.one_step(batches, window)
                window.add(losses, norm)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        batches.close()


@pytest.mark.gpu
def test_the_scaler_goes_on(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"device": "gpu", "amp": "fp16", "steps": 3, "val_every_steps": 99}
    with joined("gpu") as place:
        run, _ = start(raw_recipe, place, tmp_path / "run")
        state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
        assert state["scaler"]["scale"] > 0
        rest = build.run(config.parse(raw_recipe), place, tmp_path / "run", state)
        assert rest.scaler.state_dict() == run.scaler.state_dict()


def test_synchronized_batch_norm_on_cpus_is_refused(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["train"]["sync_bn"] = True
    with pytest.raises(UserError, match=r"train\.sync_bn = true needs GPUs"):
        build.run(config.parse(raw_recipe), Ranks(0, 2, 0, 2, torch.device("cpu")), tmp_path / "run")


def test_a_checkpoint_that_does_not_fit_is_refused(raw_recipe: dict, ranks: Ranks, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 1, "val_every_steps": 9}
    start(raw_recipe, ranks, tmp_path / "run")
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    with pytest.raises(UserError, match=r"not of this net \(unet\)"):
        build.run(config.parse(raw_recipe | {"net": {"name": "unet"}}), ranks, tmp_path / "x", state)
    other = state | {"dataset": state["dataset"] | {"classes": ["a", "b"]}}
    with pytest.raises(UserError, match="trained on 2 classes"):
        build.run(config.parse(raw_recipe), ranks, tmp_path / "x", other)


def test_a_report_that_fails_costs_one_line(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(_: Path) -> Path:
        raise KeyError("surprise")

    monkeypatch.setattr(report, "write", broken)
    raw_recipe["train"] |= {"steps": 1}
    _, summary = start(raw_recipe, ranks, tmp_path / "run")
    assert summary.step == 1
    out = capsys.readouterr().out
    assert "report.html was not written ('surprise'); the training is complete" in out and "Traceback" not in out


def test_a_finished_run_that_is_resumed_only_writes_what_is_missing(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path
) -> None:
    """Killed between its last checkpoint and its report, it is scored again; the scores are those of before."""
    raw_recipe["train"] |= {"steps": 2, "ema": 0.9}
    folder = tmp_path / "run"
    _, whole = start(raw_recipe, ranks, folder)
    before = (folder / "checkpoints" / "last.pt").read_bytes()
    (folder / "validation.json").unlink()
    (folder / "report.html").unlink()
    state = checkpoint.load(folder / "checkpoints" / "last.pt")
    _, again = start(raw_recipe, ranks, folder, state)
    assert again.last.scores == whole.last.scores and (folder / "report.html").exists()
    _, nothing = start(raw_recipe, ranks, folder, state)
    assert nothing.last is None and (folder / "checkpoints" / "last.pt").read_bytes() == before


def test_a_full_disk_under_the_log_does_not_stop_the_run(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").symlink_to("/dev/full")
    raw_recipe["train"] |= {"steps": 2}
    _, summary = start(raw_recipe, ranks, tmp_path / "run")
    assert summary.step == 2
    assert capsys.readouterr().out.count("are not complete (No space left on device). Going on.") == 1


def test_the_log_of_a_killed_run_is_cut_where_it_goes_on(tmp_path: Path) -> None:
    lines = [{"step": step, "kind": "train", "loss": 1.0} for step in (1, 2, 3, 4)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "ki')
    tracker = Tracker(tmp_path, step=3, total_steps=9)
    tracker.scalars(4, "train", {"loss": 0.5, "ce": float("nan")})
    tracker.close()
    kept = log(tmp_path, "train")
    assert [line["step"] for line in kept] == [1, 2, 3, 4]
    assert kept[-1]["loss"] == 0.5 and kept[-1]["ce"] is None


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"path": "/nowhere"}, "does not exist"),
        ("data", {"val": "vall"}, "no split 'vall'; did you mean 'val'"),
        ("data", {"batch_size": 13}, "fewer than one global batch"),
        ("net", {"name": "ennet"}, "did you mean 'enet'"),
        ("net", {"name": "deeplabv3plus", "backbone": "resnet5000"}, "resnet"),
    ],
)
def test_what_does_not_fit_is_named_before_training(
    raw_recipe: dict, ranks: Ranks, tmp_path: Path, section: str, values: dict, message: str
) -> None:
    raw_recipe[section] = raw_recipe.get(section, {}) | values
    with pytest.raises(UserError, match=message):
        build.run(config.parse(raw_recipe), ranks, tmp_path / "run")
    assert not (tmp_path / "run").exists()
