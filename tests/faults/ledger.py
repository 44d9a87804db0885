"""What the fault suite counts, and the page that it writes of it: docs/reliability.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

SECTIONS = {
    "Damage": "Bytes of a shard folder are changed, zeroed, cut off, deleted, swapped and repeated.",
    "Kill": "SIGKILL at random moments; the same command is then run again.",
    "Disk and permissions": "Full and read-only disks, folders that vanish, files that may not be written.",
    "Fuzz": "Files and options that no one would write, by hypothesis.",
    "Odd images": "Pictures as cameras, scanners and attackers make them.",
    "Security": "What SECURITY.md promises.",
    "Ranks": "Several processes under torchrun.",
    "Found before": "Faults that were found by hand once, each kept as a case.",
    "Soak": "The same thing many times over: memory, descriptors and threads must stay flat.",
    "Determinism": "The same recipe must give the same weights, by sha256.",
}

FINDINGS = [
    "A rank that took long to leave its loop died of torchrun's SIGTERM before it had named the rank that was lost.",
    "`bench.loader`, `bench.train` and `train schedule --plot` left half a file on a full disk, and did not name it.",
    "A checkpoint whose `config.net` is no mapping, and net options of the wrong kind, ended in tracebacks.",
    "A line feed in a file's name broke the list of files that `train.predict` could not read.",
    "A SIGTERM for the suite itself, at a limit of time, was taken by a training within it as a wish to stop, and its "
    "weights counted as other weights (1 of the first page's 15,947 trials was lost so). It ends the suite now.",
]


@dataclass
class Tally:
    """Trials of one promise. survived: the outcome was as if nothing had happened; found: refused in one line."""

    section: str
    promise: str
    survived: int = 0
    found: int = 0
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.section in SECTIONS, self.section

    @property
    def trials(self) -> int:
        return self.survived + self.found + len(self.lost)

    def check(self, good: bool, what: str) -> None:
        """A trial that had to go on as if nothing had happened."""
        if good:
            self.survived += 1
        else:
            self.lost.append(what)

    def refused(self, good: bool, what: str) -> None:
        """A trial that had to be refused in one line."""
        if good:
            self.found += 1
        else:
            self.lost.append(what)


def save(tally: Tally, folder: Path, name: str) -> None:
    """Keeps a test's count, so that the page can be written after a suite that ran in pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(tally)))


def load(folder: Path) -> list[Tally]:
    """All counts kept there, by section."""
    tallies = [Tally(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return sorted(tallies, key=lambda tally: list(SECTIONS).index(tally.section))


def page(tallies: Iterable[Tally]) -> str:
    """The page's markdown."""
    found = list(tallies)
    lost = sum(len(tally.lost) for tally in found)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "pillow"))
    lines = [
        "# Reliability",
        "",
        "Written by `make faults`, which breaks things on purpose and counts what happens; a short part of it is in "
        "`make test`.",
        "",
        "- **survived**: the outcome was, byte for byte, as if nothing had happened.",
        "- **found**: the fault was refused in one line that names the file or the value, with exit code 2.",
        "- **lost**: anything else: a traceback, a signal, a wrong pixel, a hang. A single one fails the suite.",
        "",
        f"{sum(tally.trials for tally in found):,} trials, {lost or 'none'} lost. "
        f"Python {platform.python_version()}, {versions}, {os.cpu_count()} cores, no GPU.",
    ]
    for section, about in SECTIONS.items():
        rows = [tally for tally in found if tally.section == section]
        if not rows:
            continue
        lines += ["", f"## {section}", "", about, "", "| promise | trials | survived | found | lost |"]
        lines += ["|---|--:|--:|--:|--:|"]
        for tally in rows:
            counts = (tally.trials, tally.survived, tally.found, len(tally.lost))
            lines.append(f"| {tally.promise} | {' | '.join(f'{count:,}' for count in counts)} |")
        for tally in rows:
            lines += [
                *[""] * bool(tally.lost),
                *(f"- Lost, {tally.promise}: `{' '.join(what.split())[:300]}`" for what in tally.lost),
            ]
    lines += ["", "## What it found", "", "Mended since, each kept as a trial:", "", *(f"- {one}" for one in FINDINGS)]
    return "\n".join(lines) + "\n"
