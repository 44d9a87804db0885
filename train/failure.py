"""How a rank among several ends on an error: its line is printed once, then all ranks end within seconds.

The rank that fails writes its line, and notes it in the store that all ranks share, where the others find it
(`train.heartbeat`). Then the process exits without leaving the process group in good order: that would wait for
collectives which the others may never enter.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import threading
import time
import traceback
from typing import NoReturn

import click
import torch.distributed as dist

from ingest import errors
from train import torchrun
from train.heartbeat import Heartbeat

AFTER = 1  # exit code of a rank that ends because another did
_LOST = (
    "Connection",
    "connection",
    "Broken pipe",
    "gloo",
    "NCCL",
    "nccl",
    "Timed out",
    "timed out",
    "socket",
    "Socket",
)


def end(error: BaseException, heartbeat: Heartbeat | None = None) -> NoReturn:
    """Ends this rank for `error`: a user's mistake, a fault of the program, or what came of another rank's end.

    heartbeat: None before the ranks have met.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which may come before the line is written
    if isinstance(error, SystemExit):
        leave(error.code if isinstance(error.code, int) else 1)
    told = errors.explain(error)
    if isinstance(error, click.ClickException):
        told = f"error: {error.format_message()}", error.exit_code
    if told is None and heartbeat is not None and _lost_another(error):
        _end_after(error, heartbeat)
    if told is None:
        traceback.print_exception(error)
        told = f"error: {type(error).__name__}: {' '.join(str(error).split())}", 1
    line, code = told
    first = heartbeat.claim(line) if heartbeat is not None else _claim_early(line)
    if first is None:
        torchrun.write_error(line)
    if first != line:  # another error of its own is printed, too
        click.echo(line, err=True)
    leave(code)


def leave(code: int) -> NoReturn:
    """Exits at once: no process group, no thread and no collective is waited for."""
    torchrun.flush()
    torchrun.remove_empty_folders()
    os._exit(code)


def _end_after(error: BaseException, heartbeat: Heartbeat) -> NoReturn:
    """Ends quietly after another rank that gave a reason; else says in a line which one is missing."""
    deadline = time.monotonic() + 1.0
    while heartbeat.failed() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if heartbeat.failed() is None:
        missing = heartbeat.silent()
        reason = errors.message(error)
        line = (
            f"error: {'; '.join(missing)} ended without a word (killed, or out of memory?): go on with --resume auto"
            if missing
            else f"error: the ranks lost each other ({reason[:300]}): go on with --resume auto"
        )
        if heartbeat.claim(line) is None:
            click.echo(line, err=True)
    leave(AFTER)


def _lost_another(error: BaseException) -> bool:
    """Whether a collective failed: torch raises a RuntimeError of its backend's words."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)
    )


def _claim_early(line: str) -> str | None:
    """None for the first rank to say this line of this start, else the line. By torchrun's own store, if there is one.

    A rank that cannot ask says it as well: better twice than not at all.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None if torchrun.is_main() else line
    with contextlib.suppress(Exception):
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        patience = datetime.timedelta(seconds=5)
        store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=patience)
        key = f"segrail/early/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{line}"
        mine = f"{os.environ.get('RANK')}"
        return None if store.compare_set(key, "", mine).decode() == mine else line
    return None
