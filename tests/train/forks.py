"""Starts `python -m train` again and again, quickly: a process that has done all imports, and nothing else, forks.

Each fork is a fresh process that runs the command from its first line; only the seconds of importing are spared.
As a program it reads recipe paths from stdin, one a line, and answers each with the fork's id and, later, its status.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


class Forks:
    """with Forks() as forks: pid = forks.start(recipe); ...; code = forks.wait()."""

    def __enter__(self) -> Forks:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "tests.train.forks"]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait()

    def start(self, recipe: Path) -> int:
        """Trains by the recipe with `--resume auto` in a fork, whose id this is. What it says goes to <recipe>.log."""
        self._server.stdin.write(f"{recipe}\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def wait(self) -> int:
        """The fork's exit code; negative: the signal that killed it."""
        return int(self._server.stdout.readline())


def _serve() -> None:
    import train.loop  # noqa: F401  these take long
    from ingest.errors import run
    from train.__main__ import command

    for line in sys.stdin:
        recipe = line.strip()
        pid = os.fork()
        if pid == 0:
            log = os.open(Path(recipe).with_suffix(".log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["train", "--cfg", recipe, "--resume", "auto"]
            run(command, "python -m train")
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
