"""What a finished run folder says of itself: score, minutes, machine, commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.errors import UserError
from train.report import run


@dataclass(frozen=True)
class Finished:
    """A run that was trained to its end."""

    folder: Path
    config: dict[str, Any]
    """The whole recipe, defaults and all."""
    step: int
    """The last."""
    split: str
    miou: float
    """Of the last weights (0 to 1), which nobody chose by their score; the best validation's is `best`."""
    pixel_accuracy: float
    iou: dict[str, float | None]
    """Class -> its IoU; None where neither labels nor predictions show it."""
    best: tuple[float, int] | None
    """mIoU and step of the checkpoint that train.monitor chose."""
    minutes: float
    """Wall time of all sessions, validations included."""
    ranks: int
    """Of its last session."""
    machine: str
    """Processor, and the GPUs that were used."""
    started: float
    """When, seconds since 1970."""
    commit: str
    versions: dict[str, str]

    def outcome(self) -> dict[str, Any]:
        """What was scored, and how it came about, as results files hold it. Scores are shares, 0 to 1."""
        return {
            "miou": self.miou,
            "best_miou": self.best[0] if self.best else None,
            "pixel_accuracy": self.pixel_accuracy,
            "iou": self.iou,
            "split": self.split,
            "steps": self.step,
            "minutes": round(self.minutes, 2),
            "machine": self.machine,
            "commit": self.commit,
            "versions": self.versions,
        }


def read(folder: Path) -> Finished:
    """A run folder's. UserError where it is none, or the run has not ended with a validation."""
    record = run.read(folder)
    found, starts = record.validation, record.starts
    if not found or found["miou"] is None:
        raise UserError(
            f"{folder} holds no finished run: no validation.json with a score. Go on with --resume {folder}"
        )
    if not record.config or not starts:
        raise UserError(f"{folder}: config.yaml or the start in log.jsonl is missing: the run's conditions are unknown")
    start, best = starts[-1], found.get("best")
    return Finished(
        folder=folder,
        config=record.config,
        step=int(found["step"]),
        split=str(found["split"]),
        miou=found["miou"],
        pixel_accuracy=found["pixel_accuracy"],
        iou=found["iou"],
        best=(best[2], best[1]) if best and best[2] is not None else None,
        minutes=record.seconds / 60,
        ranks=int(start.get("ranks", 1)),
        started=float(starts[0]["time"]),
        machine=_machine(start, str(record.config.get("train", {}).get("device", "auto"))),
        commit=str(start.get("commit", "unknown")),
        versions={name: str(start[name]) for name in ("segrail", "torch", "timm") if name in start},
    )


def seconds_per_step(folder: Path) -> float:
    """The last that the run's log tells. UserError where it tells none."""
    times = [seconds for seconds in run.read(folder).curve("train", "seconds_per_step").values() if seconds]
    if not times:
        raise UserError(f"{folder}: log.jsonl tells no seconds_per_step: let the run be longer than train.log_every")
    return times[-1]


def _machine(start: dict[str, Any], device: str) -> str:
    gpu, cpu = str(start.get("gpu", "none")), str(start.get("cpu", "unknown processor"))
    return f"{cpu}, no GPU" if gpu == "none" or device == "cpu" else f"{start.get('ranks', 1)} x {gpu}; {cpu}"
