"""What torchrun does around a rank: its agent, which this process ends with; its error file; its folders.

Without torch, so that it costs nothing before anything else is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import tempfile
import threading
import time
from pathlib import Path


def count() -> int:
    """How many ranks there are, by the environment: 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is rank 0, by the environment: also without torchrun."""
    return int(os.environ.get("RANK", 0)) == 0


def end_with_agent() -> None:
    """From now on this process ends as soon as torchrun's agent does, even where that is killed without a warning.

    A rank that trained on as an orphan would write into the run folder of the one that is started in its place. Does
    nothing without torchrun, or when called again.
    """
    watched = any(thread.name == _watch.__name__ for thread in threading.enumerate())
    if "TORCHELASTIC_RUN_ID" in os.environ and not watched:
        # Not prctl(PR_SET_PDEATHSIG): that is bound to the agent's thread that started us, which may end before it.
        threading.Thread(target=_watch, args=(os.getppid(),), name=_watch.__name__, daemon=True).start()


def _watch(agent: int) -> None:
    try:
        handle = os.pidfd_open(agent)
    except OSError:  # ended already, or a kernel before 5.3
        while os.getppid() == agent:
            time.sleep(0.2)
    else:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while os.getppid() == agent and not poll.poll(10_000):
            pass
    if os.environ.get("LOCAL_RANK", "0") == "0":
        with contextlib.suppress(OSError):  # nobody may be left to read it
            os.write(2, f"error: torchrun (pid {agent}) has ended, and so do its ranks; go on with --resume\n".encode())
    remove_empty_folders()
    os._exit(1)


def write_error(line: str) -> None:
    """Hands torchrun the line that ends a rank: it shows it last, below its own traceback."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        # torchrun shows the earliest last, and counts in whole seconds: the ranks that end after this one come later.
        moment = int(time.time()) - 1
        facts = {"message": line, "extraInfo": {"py_callstack": line, "timestamp": str(moment)}}
        for _ in range(3):  # another rank may remove the folder, still empty, between the two calls
            with contextlib.suppress(OSError):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text(json.dumps({"message": facts}))
                return


def remove_empty_folders() -> None:
    """Removes torchrun's folders for error files and logs, where they lie in the temporary folder and are empty.

    torchrun makes them for every run and never removes them. With a file in them they stay.
    """
    path = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", ""))
    for root in path.parents:
        if root.name.startswith("torchelastic_") and root.parent == Path(tempfile.gettempdir()):
            for folder, _, _ in os.walk(root, topdown=False):  # which passes over what another rank removes meanwhile
                with contextlib.suppress(OSError):  # not empty, or gone
                    os.rmdir(folder)


def flush() -> None:
    """Before an exit that runs nothing more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
