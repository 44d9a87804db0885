"""`python -m nets` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

import nets
from nets.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def test_table_lists_every_net_with_its_paper() -> None:
    result = CliRunner().invoke(main, ["--size", "64"], catch_exceptions=False)
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(nets.list_nets())]] == nets.list_nets()
    assert "arXiv 1606.02147" in result.output


def test_details_show_options_and_parts() -> None:
    result = CliRunner().invoke(main, ["unet", "--size", "64", "--backbone", "resnet18"], catch_exceptions=False)
    for words in ("U-Net", "backbone=None", "encoder", "classifier", "all", "14.33"):
        assert words in result.output


def test_unknown_net_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run([sys.executable, "-m", "nets", "psp"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no net 'psp'; did you mean 'pspnet'?")
    assert len(done.stderr.splitlines()) == 1


def test_backbone_without_a_net_is_refused() -> None:
    result = CliRunner().invoke(main, ["--backbone", "resnet18"])
    assert result.exit_code == 2
    assert "NAME" in result.output
