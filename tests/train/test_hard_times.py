"""What training meets on bad days: overflow, weights that break, a kill during validation, a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import timm.layers
import torch
import yaml
from click.testing import CliRunner

import nets
from ingest.errors import UserError
from pipeline.batch import Batch
from train import build, config, loop
from train.__main__ import command
from train.checkpoints import checkpoint, claim
from train.checkpoints.monitor import Monitor
from train.distributed import Ranks
from train.log.tracking import Tracker
from train.log.window import Window
from train.optim import optimizers
from train.optim.optimizers import OptimizerConfig
from train.run import Run

ONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def last(folder: Path) -> dict[str, Any]:
    return checkpoint.load(folder / "checkpoints" / "last.pt")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.net.state_dict().items()}


# --- fp16 ---


def test_a_first_step_that_overflows_spoils_no_momentum() -> None:
    weight = torch.nn.Parameter(torch.ones(4000, 50))
    sgd = optimizers.build(OptimizerConfig(lr=0.1), {"head": [weight]}, torch.device("cpu"))
    scaler = torch.amp.GradScaler("cpu")
    junk = torch.full((4000, 50), torch.nan)  # what freshly allocated memory may hold
    del junk
    for factor in (float("inf"), 1.0, 1.0):
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(sgd)
        scaler.update()
        sgd.zero_grad()
    # 1 - 0.1 * 1 - 0.1 * (0.9 * 1 + 1), and no weight decay worth the name
    assert torch.allclose(weight, torch.full_like(weight, 0.71), atol=1e-4)


def test_fp16_trains_through_overflows_and_its_scale_goes_on(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["optimizer"] = {"name": "sgd", "lr": 1e-5}
    raw_recipe["loss"] = {"ce": 30}
    raw_recipe["train"] |= {"steps": 9, "amp": "fp16", "device": "auto", "log_every": 1}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    loop.train(run)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    norms = [line["gradient_norm"] for line in lines if line["kind"] == "train"]
    assert None in norms and norms[-1] is not None  # some overflowed, and were left out
    state = last(tmp_path / "run")
    assert 0 < state["scaler"]["scale"] < 65536
    raw_recipe["train"]["steps"] = 10
    again = build.run(config.parse(raw_recipe), ONE, tmp_path / "run", state)
    assert again.scaler.get_scale() == state["scaler"]["scale"]


def test_a_run_goes_on_in_another_number_format(raw_recipe: dict, tmp_path: Path) -> None:
    """Preempted on a GPU with bfloat16, and queued again on one without."""
    raw_recipe["train"] |= {"steps": 2, "amp": "off", "device": "auto"}
    loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run"))
    raw_recipe["train"] |= {"steps": 3, "amp": "fp16"}
    assert loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run", last(tmp_path / "run"))).step == 3
    raw_recipe["train"] |= {"steps": 4, "amp": "off"}
    assert loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run", last(tmp_path / "run"))).step == 4


# --- synchronized batch norm ---


@pytest.mark.parametrize(
    "backbone", ["resnet18", "mobilenetv3_small_050", "regnetx_002", "resnetv2_50", "densenet121", "xception41"]
)
def test_synchronized_batch_norm_keeps_the_net(backbone: str) -> None:
    """timm's batch norms contain the activation: torch's own conversion drops it."""
    torch.manual_seed(0)
    net = nets.build("unet", num_classes=3, backbone=backbone).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = net(images)
        converted = timm.layers.convert_sync_batchnorm(net).eval()
        after = converted(images)
    assert any("SyncBatchNorm" in type(module).__name__ for module in converted.modules())
    assert not any(type(module) is torch.nn.BatchNorm2d for module in converted.modules())
    torch.testing.assert_close(after, before)


# --- weights that break ---


@pytest.mark.parametrize("every", ["save", "val"])
def test_broken_weights_replace_no_checkpoint(raw_recipe: dict, tmp_path: Path, every: str) -> None:
    """The loss of a step is judged before its update: a finite one may break the weights."""
    raw_recipe["train"] |= {"save_every_steps": 1, "val_every_steps": 1 if every == "val" else 50}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    step = run.one_step

    def breaking(*arguments: Any) -> Any:
        found = step(*arguments)
        if run.step == 2:
            next(run.net.parameters()).data[0] = float("inf")
        return found

    run.one_step = breaking  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"weights are not finite after step 3: .*last\.pt is from before; lower optim"):
        loop.train(run)
    for name in ("last", *(["best"] if every == "val" else [])):
        state = checkpoint.load(tmp_path / "run" / "checkpoints" / f"{name}.pt")
        assert state["step"] <= 2 and all(tensor.isfinite().all() for tensor in state["model"].values())


def test_a_gradient_that_is_none_stops_the_run(raw_recipe: dict, tmp_path: Path) -> None:
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    parameter = next(run.net.parameters())
    parameter.register_hook(lambda grad: grad * float("nan") if run.step == 3 else grad)
    with pytest.raises(UserError, match=r"loss or its gradient is not finite at step 4 \(batch: train-"):
        loop.train(run)
    assert last(tmp_path / "run")["step"] == 3


def test_labels_outside_the_classes_are_named_on_a_gpu_too(raw_recipe: dict, tmp_path: Path) -> None:
    """There the loss turns NaN without a wait; the count tells why."""
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    original = run.loss.forward

    def as_on_a_gpu(logits: Any, labels: torch.Tensor) -> Any:
        loss, parts = original(logits, labels)
        run.loss.bad_pixels += 7
        return loss * float("nan"), {**parts, "loss": parts["loss"] * float("nan")}

    run.loss.forward = as_on_a_gpu  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"labels hold values outside the 5 classes, 7 pixels by step 1.*ingest verify"):
        loop.train(run)


# --- a kill during a validation ---


def test_a_kill_during_validation_loses_no_step(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 7, "val_every_steps": 3, "save_every_steps": 0, "log_every": 1}
    whole = build.run(config.parse(raw_recipe), ONE, tmp_path / "whole")
    loop.train(whole)

    cut = build.run(config.parse(raw_recipe), ONE, tmp_path / "cut")
    assert cut.validator is not None
    tell = cut.validator.tell

    def killed(found: Any, step: int, tracker: Tracker) -> None:
        tell(found, step, tracker)  # its line is in the log already
        if step == 6:
            raise KeyboardInterrupt

    cut.validator.tell = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        loop.train(cut)
    state = last(tmp_path / "cut")
    assert state["step"] == 6 and state["unjudged"]

    rest = build.run(config.parse(raw_recipe), ONE, tmp_path / "cut", state)
    loop.train(rest)
    assert all(torch.equal(a, b) for a, b in zip(weights(rest).values(), weights(whole).values(), strict=True))
    assert rest.monitor.state_dict() == whole.monitor.state_dict()
    files = [{path.name for path in (tmp_path / run / "checkpoints").iterdir()} for run in ("whole", "cut")]
    assert files[0] == files[1]
    logs = []
    for name in ("whole", "cut"):
        lines = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        logs.append([(line["step"], line["kind"]) for line in lines if line["kind"] != "event"])
    assert logs[0] == logs[1]


def _interrupt_in_validation(run: Run, times: int) -> None:
    assert run.validator is not None
    score = run.validator.score

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        return score(*arguments, **keywords)

    run.validator.score = interrupted  # type: ignore[method-assign]


def test_ctrl_c_in_a_validation_is_answered_at_once(
    raw_recipe: dict, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    raw_recipe["train"] |= {"steps": 7, "val_every_steps": 3}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    _interrupt_in_validation(run, times=1)
    summary = loop.train(run)
    assert (summary.step, summary.stopped_by) == (3, signal.SIGINT) and not last(tmp_path / "run")["unjudged"]
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("SIGINT")]
    assert told == ["SIGINT: stopping after this validation, a while; step 3 is saved; once more to quit at once"]


def test_a_second_ctrl_c_quits_at_once(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 7, "val_every_steps": 3}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    _interrupt_in_validation(run, times=2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(run)
    assert (last(tmp_path / "run")["step"], last(tmp_path / "run")["unjudged"]) == (3, True)


def test_a_checkpoint_written_again_holds_the_same_learning_rate(raw_recipe: dict, tmp_path: Path) -> None:
    """Killed between a step and its validation, the run that goes on saves that step once more."""
    raw_recipe["train"] |= {"steps": 4, "val_every_steps": 3, "keep_every_steps": 3}
    raw_recipe["schedule"] = {"name": "onecycle"}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    assert run.validator is not None
    run.validator.tell = full  # type: ignore[method-assign]
    with pytest.raises(OSError):
        loop.train(run)
    before = last(tmp_path / "run")
    loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run", before))
    again = checkpoint.load(tmp_path / "run" / "checkpoints" / "step-3.pt")
    assert before["step"] == again["step"] == 3
    assert before["optimizer"]["param_groups"] == again["optimizer"]["param_groups"]


# --- full disks ---


def test_a_best_checkpoint_that_was_not_written_is_not_the_best(
    raw_recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_recipe["train"] |= {"steps": 4, "val_every_steps": 1, "keep_best": 2}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run")
    scores = {1: 0.3, 2: 0.6, 3: 0.5, 4: 0.4}
    monkeypatch.setattr(Monitor, "value", lambda self, found: scores[run.step])
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda path, state: (full if run.step == 2 else save)(path, state))
    summary = loop.train(run)
    folder = tmp_path / "run" / "checkpoints"
    assert checkpoint.load(folder / "best.pt")["step"] == 3
    assert {path.stem for path in folder.iterdir()} == {"best", "best-3", "best-4", "last"}
    assert "step 3" in summary.best_text and summary.saved


def test_a_run_whose_last_checkpoint_is_missing_says_so_by_its_exit_code(
    raw_recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(raw_recipe | {"train": raw_recipe["train"] | {"steps": 1}}))
    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr("train.report.build.write", full)
    done = CliRunner().invoke(command, ["--cfg", str(recipe)], standalone_mode=False)
    assert done.return_value == 1
    assert "error: step 1, the last, is in no checkpoint" in done.output
    assert "report:" not in done.output


def test_tensorboards_thread_leaves_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", before := lambda failed: told.append(failed.thread.name))
    tracker = Tracker(tmp_path, 0, 9)
    writing = type(tracker._board._get_file_writer().event_writer._async_writer._worker)
    error = OSError(errno.ENOSPC, "full")
    for kind, name in ((writing, "tensorboard's"), (threading.Thread, "another")):
        thread = kind.__new__(kind)
        threading.Thread.__init__(thread, name=name)
        threading.excepthook(threading.ExceptHookArgs((OSError, error, None, thread)))
    tracker.close()
    assert told == ["another"]
    assert threading.excepthook is before


# --- names ---


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    assert [claim.new_folder(tmp_path / "a" / "now").name for _ in range(3)] == ["now", "now-2", "now-3"]


def test_a_warm_up_as_long_as_the_run_is_told(raw_recipe: dict, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        yaml.safe_dump(raw_recipe | {"schedule": {"warmup_steps": 5}, "data": raw_recipe["data"] | {"val": None}})
    )
    done = CliRunner().invoke(command, ["--cfg", str(recipe), "train.steps=1"], catch_exceptions=False)
    assert "warning: schedule.warmup_steps = 5, but the run has 1 steps" in done.output
    shown = CliRunner().invoke(command, ["schedule", "--cfg", str(recipe), "train.steps=5"], catch_exceptions=False)
    assert "warning: 5 warm-up steps of 5" in shown.output


def test_only_the_time_that_a_gpu_has_nothing_to_do_counts_as_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the marks are events in its queue, read when it is past them."""

    class Event:
        now = 0.0

        def record(self) -> None:
            self.at = Event.now
            Event.now += 40.0

        def elapsed_time(self, other: Event) -> float:
            return other.at - self.at

    window = Window(ONE, 4, 1)
    window.clock._device = torch.device("cuda")
    window.clock._now = lambda: (event := Event(), event.record())[0]  # type: ignore[method-assign]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 0)
    for _ in range(3):
        window.next(iter([Batch(torch.zeros(1, 3, 2, 2), None, ["a"])]))
        window.add({"loss": torch.tensor(1.0)}, torch.tensor(1.0))
    values, bad = window.flush()
    assert bad is None
    assert values["data_wait_share"] * values["seconds_per_step"] == pytest.approx(0.04)
