"""`segrail COMMAND ...`: the installed console command, thin over `python -m COMMAND ...`.

It stands in this package because this is the only one that may know all the others.
"""

from __future__ import annotations

import difflib
import os
import runpy
import sys

# sub-command -> (module that runs it, what it does)
COMMANDS = {
    "ingest": ("ingest", "raw dataset -> WebDataset tar shards"),
    "pipeline": ("pipeline", "look at the stream of training crops, compare it between machines"),
    "nets": ("nets", "list the architectures, describe one"),
    "train": ("train", "train by a recipe; recipes, schedule, convert"),
    "evaluate": ("train.evaluate", "score a checkpoint on a split"),
    "predict": ("train.predict", "label image files with a checkpoint"),
    "view": ("train.view", "look through a split with a net's predictions, in a browser"),
    "export": ("train.export", "a checkpoint as one file that needs no segrail"),
    "report": ("train.report", "a run's report.html"),
}
BENCHES = ("ablation", "gpu_report", "ingest", "loader", "nets", "parity", "predict", "scale", "staging", "train")


def main() -> None:
    """Runs `python -m <module>` in this process for `segrail <command>`; exit code 2 for an unknown command."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help") or words in (["bench", "-h"], ["bench", "--help"]):
        print(usage())
        return
    if words[0] == "bench" and len(words) > 1 and words[1] in benches():
        module, rest = f"bench.{words[1]}", words[2:]
    elif words[0] in COMMANDS:
        module, rest = COMMANDS[words[0]][0], words[1:]
    else:
        given = " ".join(words[:2] if words[0] == "bench" else words[:1])
        known = [*COMMANDS, "bench", *(f"bench {name}" for name in benches())]
        close = difflib.get_close_matches(given, [name for name in known if name != given], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        print(f"error: segrail has no command {given!r}{hint}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    if __spec__ is not None and sys.path and sys.path[0] == os.path.dirname(sys.argv[0]):
        del sys.path[0]  # the folder of console scripts, in which somebody's train.py may lie
    sys.argv = [f"python -m {module}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def benches() -> list[str]:
    """Names of `segrail bench NAME`, of those that are there."""
    there = set(os.listdir(os.path.dirname(__file__)))
    return [name for name in BENCHES if {name, f"{name}.py"} & there]


def usage() -> str:
    """The text of `segrail --help`."""
    lines = [f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: segrail COMMAND [ARGUMENTS]...        (segrail COMMAND --help says more)",
            "",
            *lines,
            "  bench     how fast, against whom, and what is the limit:",
            f"            {' | '.join(benches())}",
            "",
            "Each is `python -m <module>`; on several GPUs: torchrun --nproc-per-node N -m train --cfg RECIPE",
        ]
    )
