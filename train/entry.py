"""Where the commands that run under torchrun begin and end."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from ingest import errors
from train import torchrun


def run(command: click.Command, prog_name: str) -> NoReturn:
    """`ingest.errors.run`; of several ranks that make the same mistake one says so."""
    torchrun.end_with_agent()
    if torchrun.count() == 1:
        errors.run(command, prog_name)
    try:
        code = command.main(prog_name=prog_name, standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:
        from train import failure

        failure.end(error)
    torchrun.remove_empty_folders()
    sys.exit(code if isinstance(code, int) else 0)
