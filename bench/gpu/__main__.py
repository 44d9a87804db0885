"""`python -m bench.gpu STAGE FOLDER`: runs one stage and writes FOLDER/STAGE.json, also when it fails."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click

from ingest.errors import UserError, run
from ingest.shards import atomic
from pipeline.options import bundled

# Stage -> (module, function), in the order in which they run: what others need first, then what says most.
STAGES = {
    "versions": ("others", "versions"),
    "scenes": ("others", "scenes"),
    "smoke": ("pixels", "smoke"),
    "streams": ("pixels", "streams"),
    "decoders": ("pixels", "decoders"),
    "reuse": ("memory", "reuse"),
    "capture": ("memory", "capture"),
    "gradients": ("gradients", "gradients"),
    "resident": ("levers", "resident"),
    "loader": ("others", "loader"),
    "training": ("others", "training"),
    "levers": ("levers", "levers"),
    "tests": ("others", "tests"),
    "nets": ("others", "nets"),
}


@dataclass(frozen=True)
class Options:
    """The command's."""

    stage: str
    folder: Path
    device: str
    data: Path | None
    quick: bool


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("stage", type=click.Choice(list(STAGES)))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--device", type=click.Choice(["gpu", "cpu"]), default="gpu", show_default=True, help="cpu: to try it out."
)
@click.option("--data", type=click.Path(path_type=Path), help="A shard folder to measure on, in place of drawn scenes.")
@click.option("--quick", is_flag=True, help="As small as makes sense: to see that it works, not how fast.")
@bundled(Options)
def main(options: Options) -> int:
    """Run one stage of bench/on_gpu.sh and write FOLDER/STAGE.json: its result, or why there is none.

    Exit code 1 when it failed.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    facts: dict[str, object] = {"stage": options.stage, "ok": True, "device": options.device, "quick": options.quick}
    try:
        facts["result"] = _stage(options)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        facts |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:1000]}
        print(f"{options.stage}: {error}", file=sys.stderr)
    facts["seconds"] = round(time.perf_counter() - start, 1)
    atomic.write_json(options.folder / f"{options.stage}.json", facts)
    return 0 if facts["ok"] else 1


def _stage(options: Options) -> object:
    import torch

    from bench.gpu.stage import Place

    anywhere = options.stage in ("versions", "scenes")
    if options.device == "gpu" and not torch.cuda.is_available() and not anywhere:
        raise UserError("torch finds no GPU here: see nvidia-smi, or try the stage out with --device cpu")
    on_gpu = options.device == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    module, function = STAGES[options.stage]
    stage: Callable[[Place], object] = getattr(import_module(f"bench.gpu.{module}"), function)
    return stage(Place(options.folder, device, options.data, options.quick))


if __name__ == "__main__":
    run(main, "python -m bench.gpu")
