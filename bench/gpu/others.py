"""Stages that run other commands: versions, tests and benches, whose JSON they take over."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from bench.data import scenes as drawn
from bench.gpu.stage import Place, Result
from train.log import provenance

_START = time.perf_counter()
_SPARE = 6.0  # seconds of $STAGE_SECONDS that a stage needs for itself: to start, and to write what it has


def versions(place: Place) -> Result:
    """What is installed, and what nvidia-smi says."""
    try:
        smi = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        smi = f"no nvidia-smi: {error}"
    return {"versions": provenance.versions(), "nvidia-smi": smi}


def scenes(place: Place) -> Result:
    """Draws the scenes that the other stages measure on."""
    sizes = ["voc"] if place.quick else ["voc", "cityscapes-jpeg"]
    return {size: str(drawn.make(size, place.folder / "scenes")) for size in sizes}


def tests(place: Place) -> Result:
    """The tests that need a GPU."""
    report = place.folder / "tests.xml"
    target = ["tests/pipeline"] if place.quick else []
    _run(["pytest", "-q", "-m", "gpu", f"--junitxml={report}", *target], allowed=(0, 1, 5))
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = [f"{case.get('classname')}::{case.get('name')}" for case in failed]
    return {"passed": len(cases) - len(failed) - len(skipped), "failed": names, "skipped": len(skipped)}


def loader(place: Place) -> Result:
    """bench.loader: the GPU device, the CPU device and the copy, decoding alone, DALI's own chain."""
    rows = "decode,ours" if place.quick else "read,decode,ours,ours-cpu,dali"
    found: Result = {}
    sizes = [place.shards] if place.data or place.quick else [place.shards, place.shards.parent / "cityscapes-jpeg"]
    for size in sizes:
        much = ["--seconds", "0.2", "--repeats", "1"] if place.quick else ["--seconds", "1.5", "--repeats", "2"]
        crop = _crop_recipe(place, size.name)
        command = ["bench.loader", str(size), "--cfg", str(crop), "--device", _device(place), "--rows", rows, *much]
        tables = _bench([*command, "--batch", "4" if place.quick else "16"], place.folder / f"loader-{size.name}.json")
        found |= tables.get("tables", {size.name: tables})
    return _some(found)


def training(place: Place) -> Result:
    """bench.train: PSPNet-R50 at 512 and ENet, from a cached batch, the GPU's, the CPU's, and the naive loader."""
    found: Result = {}
    for name, words in {
        "PSPNet-R50, 512x512": ["--cfg", "voc_pspnet", "net.pretrained=false", "augment.crop=[512,512]"],
        "ENet, 256x192": ["--cfg", "camvid_enet"],
    }.items():
        if place.quick and "ENet" not in name:
            continue
        rows = "cached,ours" if place.quick else "cached,ours,ours-cpu,naive"
        much = ["--steps", "1", "--repeats", "1"] if place.quick else ["--steps", "30", "--repeats", "1"]
        more = ["data.batch_size=2"] if place.quick else []
        data = [str(place.shards), "data.train=train", "data.val=", f"train.device={_device(place)}"]
        command = ["bench.train", *words, *data, *more, "--rows", rows, *much]
        facts = _bench(command, place.folder / f"train-{name.split(',')[0]}.json")
        found[name] = facts.get("rows", facts)
    return _some(found)


def nets(place: Place) -> Result:
    """bench.nets: forward and training speed of some nets, channels-last and compiled; those that the time allows."""
    names = ["enet"] if place.quick else ["enet", "pspnet"]
    much = ["--size", "64", "--seconds", "0.1"] if place.quick else ["--seconds", "1", "--mode", "compiled"]
    command = ["bench.nets", *names, "--device", _device(place), *much, "--mode", "channels-last"]
    return _some({"nets": _bench(command, place.folder / "bench-nets.json")})["nets"]


def _bench(command: list[str], out: Path) -> Result:
    """What a bench wrote, also where it was stopped half way; {"error": why} where it wrote nothing."""
    out.unlink(missing_ok=True)
    try:
        _run([*command, "--json", str(out)])
    except RuntimeError as error:
        if not out.exists():
            return {"error": str(error)}
    return json.loads(out.read_text())


def _some(found: Result) -> Result:
    """The results. RuntimeError when each is an error."""
    errors = [one["error"] for one in found.values() if "error" in one]
    if len(errors) == len(found):
        raise RuntimeError("; ".join(errors))
    return found


def _run(command: list[str], allowed: tuple[int, ...] = (0,)) -> None:
    """`python -m command`, its words into this stage's log. RuntimeError with its last words when it fails, or takes
    more than the stage has left."""
    print(f"$ python -m {' '.join(command)}", flush=True)
    left = max(1.0, float(os.environ.get("STAGE_SECONDS", "inf")) - (time.perf_counter() - _START) - _SPARE)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=None if math.isinf(left) else left,
        )
    except subprocess.TimeoutExpired as error:
        print(error.stdout or "", flush=True)
        raise RuntimeError(f"python -m {command[0]} took more than the {left:.0f} s that were left") from error
    print(done.stdout, flush=True)
    if done.returncode not in allowed:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"python -m {command[0]} ended with code {done.returncode}: {last}")


def _crop_recipe(place: Place, size: str) -> Path:
    """A recipe with the crop that suits the scenes of that size."""
    path = place.folder / f"crop-{size}.yaml"
    crop, base = (768, 1024) if size.startswith("cityscapes") else (380, 400)
    if place.quick:
        crop, base = 64, 96
    path.write_text(
        f"augment: {{crop: [{crop}, {crop}], base_size: {base}}}\nnet: {{name: enet}}\ntrain: {{steps: 1}}\n"
    )
    return path


def _device(place: Place) -> str:
    return "gpu" if place.on_gpu else "cpu"
