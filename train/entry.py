"""Where the commands that run nets begin and end. To be imported before torch."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from ingest import errors
from train import torchrun

# OpenMP's threads spin between two kernels, on the very cores that make the next batch; and where another program has
# one of these, all threads wait for that one in every kernel. To be set before torch brings OpenMP in.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


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
