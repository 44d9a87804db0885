"""Which validation was the best, which checkpoints that keeps, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.errors import UserError, nearest
from ingest.shards.wording import count
from train.checkpoints.state import MonitorState
from train.evaluate.evaluation import Evaluation

SCORES = ("miou", "pixel_accuracy", "loss")


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    value: float
    """Of the monitored score."""
    step: int
    miou: float | None


class Monitor:
    """Judges validations by one number: `miou`, `pixel_accuracy`, `iou/<class>` (higher is better) or `loss` (lower).

    Every rank holds one and sees the same scores, so all agree when to stop without asking each other.
    """

    def __init__(self, name: str, classes: Sequence[str], patience: int = 0, keep: int = 1) -> None:
        """patience: validations without a better one before `exhausted`; 0: never. keep: how many checkpoints stay.

        UserError when `name` is no score, or the dataset has no such class.
        """
        choices = [*SCORES, *(f"iou/{each}" for each in classes)]
        if name not in choices:
            raise UserError(f"train.monitor = {name!r} is no validation score{nearest(name, choices)}")
        self.name, self.patience, self.keep = name, patience, keep
        self._class = classes.index(name.removeprefix("iou/")) if name.startswith("iou/") else None
        self.best: Best | None = None
        self.since = 0
        """Validations since the best one."""
        self.kept: list[tuple[float, int]] = []
        """(value, step) of the checkpoints that stay, best first."""
        self._before: tuple[Best | None, list[tuple[float, int]]] = (None, [])

    def value(self, found: Evaluation) -> float | None:
        """The monitored number; None where the validation images do not give it (a class that is not there)."""
        if self._class is not None:
            return found.scores.iou[self._class]
        return {"miou": found.scores.miou, "pixel_accuracy": found.scores.pixel_accuracy, "loss": found.loss}[self.name]

    def update(self, found: Evaluation, step: int) -> bool:
        """Notes a validation; whether it is the best so far. Of equals the earlier one stays.

        A number that is missing or not finite is never the best, but counts against the patience.
        """
        self._before = self.best, self.kept
        value = self.value(found)
        if value is None or not math.isfinite(value):
            self.since += 1
            return False
        improved = self.best is None or self._badness(value) < self._badness(self.best.value)
        if improved:
            self.best = Best(value, step, found.scores.miou)
        self.since = 0 if improved else self.since + 1
        ranked = sorted([*self.kept, (value, step)], key=lambda entry: (self._badness(entry[0]), entry[1]))
        self.kept = ranked[: self.keep]
        return improved

    def lost(self) -> None:
        """The last validation's checkpoint could not be written: the best are those of before."""
        self.best, self.kept = self._before

    def names(self, step: int) -> list[str]:
        """The names under which this step's checkpoint is to be kept: best-<step> and best, one of them, or none."""
        names = [f"best-{step}"] if self.keep > 1 and step in self.kept_steps else []
        return [*names, "best"] if self.best is not None and self.best.step == step else names

    @property
    def kept_steps(self) -> list[int]:
        """The steps of the best validations, best first."""
        return [step for _, step in self.kept]

    def describe(self) -> str:
        """What best.pt is, such as `best mIoU 51.20% (step 800)`."""
        if self.best is None:
            return "no best yet"
        miou = "-" if self.best.miou is None else f"{100 * self.best.miou:.2f}%"
        by = "" if self.name == "miou" else f", by {self.name} {self.best.value:.4f}"
        return f"best mIoU {miou} (step {self.best.step}{by})"

    def reason(self) -> str:
        """Why the patience is exhausted."""
        best = (
            "none had a value" if self.best is None else f"the best was {self.best.value:.4f} at step {self.best.step}"
        )
        return f"{count(self.patience, 'validation')} without a better {self.name} (train.patience); {best}"

    @property
    def exhausted(self) -> bool:
        """The patience is at its end."""
        return 0 < self.patience <= self.since

    @property
    def may_end(self) -> bool:
        """Whether the next validation could be the one that exhausts the patience."""
        return 0 < self.patience <= self.since + 1

    def state_dict(self) -> MonitorState:
        """For the checkpoint."""
        best = None if self.best is None else [self.best.value, self.best.step, self.best.miou]
        return {"name": self.name, "best": best, "since": self.since, "kept": [list(entry) for entry in self.kept]}

    def load_state_dict(self, state: MonitorState) -> bool:
        """Goes on from `state`. Of another score's values nothing can be taken over: False, and it starts anew."""
        if state["name"] != self.name:
            return False
        self.best = None if state["best"] is None else Best(*state["best"])
        self.since = state["since"]
        self.kept = [(value, step) for value, step in state["kept"]]
        return True

    def _badness(self, value: float) -> float:
        return value if self.name == "loss" else -value
