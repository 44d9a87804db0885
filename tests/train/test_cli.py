"""`python -m train`: training and the small commands beside it are told apart by the first argument."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from ingest.errors import UserError
from tests.conftest import ROOT
from train import config
from train.__main__ import SUBCOMMANDS, command
from train.distributed import joined


def train(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), prog_name="python -m train")


def refused(*arguments: str) -> str:
    result = train(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_help_teaches_every_command() -> None:
    text = train("--help").output
    for name in SUBCOMMANDS:
        assert f"python -m train {name}" in text
        own = train(name, "--help")
        assert own.exit_code == 0 and own.output.startswith(f"Usage: python -m train {name} "), own.output
    assert "--dry-run" in text and "--stand-in" in text


@pytest.mark.parametrize(
    "words",
    [
        "train --help",
        "train recipes",
        "train schedule --help",
        "train schedule --cfg voc_pspnet",
        "train convert --help",
        "train --cfg voc_pspnet --print-config",
        "train --cfg voc_pspnet train.stepz=4",
        "train.evaluate --help",
        "train.predict --help",
        "train.export --help",
        "train.report --help",
        "train.convert --help",
    ],
)
def test_what_trains_nothing_does_not_wait_for_torch(words: str) -> None:
    """Nor for DALI and what else takes seconds and a gigabyte."""
    module, *arguments = words.split()
    probe = f"""
import runpy, sys
sys.argv = ["x", *{arguments!r}]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit:
    print(sorted({{"torch", "torchvision", "timm", "nvidia.dali", "scipy"}} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_the_options_name_what_can_be_done() -> None:
    from train.evaluate import order, submission

    assert list(order.BENCHMARKS) == sorted(submission.FORMS)


def test_recipes_are_listed_with_what_they_train() -> None:
    lines = train("recipes").output.splitlines()
    rows = {line.split()[0]: line for line in lines[1:] if line}
    assert set(config.shipped()) <= set(rows)
    assert "pspnet resnet50c.gluon_in1k (ImageNet)" in rows["voc_pspnet"] and "40000 steps" in rows["voc_pspnet"]
    assert "dinov2.lvd142m (pretrained)" in rows["voc_linear_dinov2"]  # not from ImageNet
    assert "192x256" in rows["camvid_enet"] and "100 epochs" in rows["camvid_enet"]


def test_a_schedule_is_shown_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "lr.png"
    result = train("schedule", "--cfg", "voc_pspnet", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "voc_pspnet: poly, base learning rate 0.01, 40000 steps"
    assert lines[1].split() == ["step", "lr"] and lines[2].split() == ["0", "0.01"]
    assert lines[-2].split()[0] == "39999" and lines[-1] == str(picture)
    with Image.open(picture) as image:
        assert image.size == (900, 300)


def test_momentum_is_shown_where_it_is_scheduled(tmp_path: Path) -> None:
    picture = tmp_path / "lr.png"
    result = train(
        "schedule", "--cfg", "voc_pspnet", "--steps", "101", "--plot", str(picture), "schedule.name=onecycle"
    )
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()[1:-1]}
    assert rows["step"] == ["lr", "momentum"]
    assert rows["0"] == ["0.001", "0.950"] and rows["30"] == ["0.01", "0.850"] and rows["100"] == ["0.0004", "0.950"]
    with Image.open(picture) as image:
        assert image.size == (900, 600)


def test_epochs_are_counted_in_the_dataset(toy: Path, tmp_path: Path) -> None:
    epochs = ["schedule", "--cfg", "scenes_enet", "train.epochs=5", "data.batch_size=5"]
    result = train(*epochs, f"data.path={toy}", "schedule.warmup_steps=0")
    assert result.output.splitlines()[0].endswith(", 10 steps")  # 12 samples: 2 batches of 5 an epoch
    assert "give --steps N" in refused(*epochs, f"data.path={tmp_path}")
    assert train(*epochs, f"data.path={tmp_path}", "--steps", "7").output.splitlines()[0].endswith(", 7 steps")
    assert "has 12 samples" in refused(*epochs, f"data.path={toy}", "data.batch_size=13")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "did you mean 'voc_pspnet'" in refused("schedule", "--cfg", "voc_pspnett")
    assert "ends in .png" in refused("schedule", "--cfg", "voc_pspnet", "--plot", str(tmp_path / "lr.jpg"))
    assert "does not exist" in refused("schedule", "--cfg", "voc_pspnet", "--plot", str(tmp_path / "no" / "lr.png"))
    assert "add --dry-run" in refused("--cfg", "voc_pspnet", "--stand-in", "voc")
    assert "does not go with --dry-run" in refused("--cfg", "voc_pspnet", "--dry-run", "--resume", "auto")


@pytest.mark.parametrize("arguments", [["convert", "none.json"], ["schedule", "--cfg", "none"]])
def test_a_users_mistake_exits_with_2_and_no_traceback(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "train", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "hidden"), [("train", "pipeline"), ("train.evaluate", "pipeline"), ("pipeline", "ingest")]
)
def test_a_file_of_the_users_that_hides_ours_is_named(tmp_path: Path, module: str, hidden: str) -> None:
    (tmp_path / f"{hidden}.py").write_text("print('mine')\n")
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: {tmp_path / hidden}.py hides segrail's package '{hidden}': rename that file, or work in another "
        "folder\n"
    )


def test_a_gpu_that_is_not_there_is_named_as_it_was_asked_for(
    tmp_path: Path, raw_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^--device gpu: this machine shows no GPU; use --device cpu$"), joined("gpu"):
        pass
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw_recipe))
    told = refused("--cfg", str(tmp_path / "r.yaml"), "train.device=gpu")
    assert told == "train.device=gpu: this machine shows no GPU; use train.device=cpu"


@pytest.mark.parametrize("module", ["train.session", "train.evaluate.scoring", "train.predict.labeling"])
def test_openmp_is_told_not_to_spin_before_torch_comes(module: str) -> None:
    probe = f"""
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ["GOMP_SPINCOUNT"], flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
import {module.rpartition(".")[0]}.__main__, {module}
"""
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True)
    assert done.stdout == "1000\n", done.stderr
