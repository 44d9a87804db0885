"""Which checkpoint files a run folder holds. Only the main rank writes; a full disk costs a checkpoint, not the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.checkpoints import checkpoint
from train.checkpoints.state import State
from train.log.tracking import Tracker


class Saver:
    """Writes one state under several names: `last.pt`, `best.pt`, `best-<step>.pt` (keep_best > 1), `step-<N>.pt`."""

    def __init__(self, run_folder: Path, is_main: bool) -> None:
        self.folder, self._is_main = run_folder / "checkpoints", is_main

    def path(self, name: str) -> Path:
        """Of the checkpoint called `name`."""
        return self.folder / f"{name}.pt"

    def write(self, names: Sequence[str], state: State, step: int, tracker: Tracker) -> list[str]:
        """Writes the file once, links the other names, in this order; returns those not written, after a warning.

        `last` belongs at the end: a run that is killed in between goes on from the `last` before, and does the rest
        again.
        """
        if not self._is_main:
            return []
        todo = [self.path(name) for name in names]
        first = todo[0]
        try:
            checkpoint.save(first, state)
            todo.remove(first)
            while todo:
                checkpoint.link(first, todo[0])
                del todo[0]
        except OSError as error:
            missing = [path.name for path in todo]
            last = self.path("last")
            kept = f"{last} of before is kept" if last.exists() else "there is none yet"
            reason = error.strerror or str(error)
            tracker.say(
                f"warning: at step {step} {', '.join(missing)} could not be written ({reason}): {kept}; "
                "free some space. Going on."
            )
            tracker.event(step, what="checkpoint not written", files=missing, error=str(error))
            return [path.stem for path in todo]
        return []

    def keep_best(self, steps: Sequence[int]) -> None:
        """Removes every `best-<step>.pt` but those of `steps`."""
        if self._is_main:
            kept = {self.path(f"best-{step}") for step in steps}
            for path in self.folder.glob("best-*.pt"):
                if path not in kept and path.stem.removeprefix("best-").isdigit():
                    path.unlink(missing_ok=True)

    def last_good(self) -> str:
        """What there is to go on from, for an error message."""
        path = self.path("last")
        return f"{path} is from before" if path.exists() else "no checkpoint was written before"
