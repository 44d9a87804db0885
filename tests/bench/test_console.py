"""`segrail COMMAND` is `python -m COMMAND`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bench import console
from tests.conftest import ROOT


def segrail(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.console import main; main()"
    return subprocess.run([sys.executable, "-c", program, *words], cwd=cwd, capture_output=True, text=True)


def test_it_is_installed_under_its_name() -> None:
    (entry,) = entry_points(group="console_scripts", name="segrail")
    assert entry.value == "bench.console:main"


@pytest.mark.parametrize("words", [["ingest"], ["train"], ["evaluate"], ["bench", "loader"]])
def test_help_is_that_of_the_module(words: list[str]) -> None:
    done = segrail(*words, "--help")
    assert done.returncode == 0 and "Usage: python -m" in done.stdout and "--" in done.stdout


def test_exit_codes_and_messages_pass_through() -> None:
    done = segrail("train", "--cfg", "scenes_enett")
    assert done.returncode == 2 and "did you mean 'scenes_enet'" in done.stderr


@pytest.mark.parametrize(
    ("words", "named"), [(["trian"], "'trian'"), (["bench", "x"], "'bench x'"), (["bench"], "'bench'")]
)
def test_an_unknown_command_is_named_with_the_choices(words: list[str], named: str) -> None:
    done = segrail(*words)
    assert done.returncode == 2 and named in done.stderr and "predict" in done.stderr and "loader" in done.stderr


def test_the_nearest_command_is_named() -> None:
    assert "'trian'; did you mean 'train'?" in segrail("trian").stderr
    assert "'bench lodaer'; did you mean 'bench loader'?" in segrail("bench", "lodaer").stderr
    assert segrail("bench", "--help").stdout == segrail("--help").stdout


def test_every_command_and_bench_is_listed() -> None:
    shown = segrail("--help").stdout
    assert all(name in shown for name in [*console.COMMANDS, *console.benches()])
    runnable = {p.stem for p in (ROOT / "bench").glob("*.py") if "click.command" in p.read_text()} | {"parity"}
    assert runnable == set(console.benches())


def test_a_train_py_of_the_user_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('not ours')")
    done = segrail("train", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Train a net by a recipe" in done.stdout


@pytest.mark.slow
def test_an_installation_outside_the_clone_has_all_it_needs(tmp_path: Path) -> None:
    where = ["--target", str(tmp_path / "site"), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *where], check=True)
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from bench.console import main; main()"
    commands = {"train --cfg camvid_enet --print-config": 0, "ingest folder --help": 0, "report": 2}
    for line, code in commands.items():
        words = line.split()
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
