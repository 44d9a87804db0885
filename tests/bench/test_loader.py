"""bench.loader: all rows run, on the same data, and the tables say what was measured. Nothing here asserts a speed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import loader as bench_loader
from bench import loaders
from bench.data import scenes
from bench.data.setting import Setting
from bench.loader import command
from bench.loaders import ROWS
from bench.loaders.stepwise import StepByStep
from bench.measuring import fresh
from bench.measuring.fresh import RowFailed
from bench.measuring.stages import Stages
from bench.results import bounds, loader_table, plots
from bench.results.plots import OURS, Bar, Chart, draw
from bench.rows.loader import in_process, measure
from ingest.errors import UserError
from ingest.shards.manifest import load
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.feeding import available_threads
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(32, 40), base_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("bench"), {"train": [smooth_scene(50, 70, i) for i in range(6)]})


def test_rows_in_this_process_yield_whole_batches_for_ever(folder: Path) -> None:
    setting = Setting(str(folder), "train", AUGMENT, 4, 1, "cpu")
    for row in ("read", "decode", "ours", "dali"):
        assert list(itertools.islice(loaders.start(row, setting), 5)) == [4] * 5, row


@pytest.mark.slow
@pytest.mark.parametrize("row", ["opencv", "torchvision", "albumentations", "decoded"])
def test_rows_with_workers_are_measured(folder: Path, row: str) -> None:
    facts = in_process(row, Setting(str(folder), "train", AUGMENT, 4, 2, "cpu"), 0.2)
    assert facts["images_per_second"] > 0 and facts["cpu_seconds_per_image"] > 0


def test_batches_by_the_cpu_end_up_on_the_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import bench.loaders.segrail as segrail

    asked = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(segrail, "TrainLoader", lambda shards, stream, feeding: asked.append(feeding) or [])
    for row in ("ours", "ours-cpu"):
        assert not list(loaders.start(row, Setting(str(folder), "train", AUGMENT, 4, 3, "gpu")))
    gpu = torch.device("cuda", 2)
    assert [(f.device, f.copy_to, f.threads) for f in asked] == [(gpu, None, 3), (torch.device("cpu"), gpu, 3)]
    assert loaders.obstacle("ours-cpu", 3, "cpu") and not loaders.obstacle("ours-cpu", 3, "gpu")


def test_rows_without_an_augmentation_change_that_one_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.loaders.segrail as ours

    monkeypatch.setattr(ours, "ours", lambda setting: setting.augment)
    names = [name for name in ROWS if name.startswith("ours-no-")]
    setting = Setting(str(folder), "train", AUGMENT, 4, 1, "cpu")
    seen: dict[str, Any] = {name: loaders.start(name, setting) for name in names}
    assert seen["ours-no-blur"] == Augment(crop=(32, 40), base_size=64, blur=0.0)
    more = {name: loaders.start(name, setting) for name in ROWS if name.startswith("ours-with-")}
    assert more["ours-with-colors"] == replace(AUGMENT, brightness=0.125, contrast=0.5, saturation=0.5, hue=36.0)
    assert len({*more.values(), AUGMENT}) == 4
    assert seen["ours-no-augment"] == Augment((32, 40), 64, (1.0, 1.0), 0.0, 0.0, 0.0)
    assert set(seen) == {f"ours-no-{part}" for part in ("scale", "rotate", "flip", "blur", "augment", "antialias")}


def test_the_step_by_step_row_makes_the_same_kind_of_sample(folder: Path) -> None:
    dataset = StepByStep(ShardSet(folder, "train"), AUGMENT)
    for sample in range(6):
        image, label = dataset[sample]
        assert image.shape == (3, 32, 40) and label.shape == (32, 40)
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 255}


def test_the_torchvision_row_makes_the_same_kind_of_sample(folder: Path) -> None:
    pytest.importorskip("webdataset")
    from bench.loaders.torchvision_v2 import sample_transform

    transform = sample_transform(AUGMENT, load(folder))
    for seed in range(6):
        pixels, ids = smooth_scene(50, 70, seed)
        image, label = transform((Image.fromarray(pixels), Image.fromarray(ids)))
        assert image.shape == (3, 32, 40) and image.dtype.is_floating_point
        assert label.shape == (32, 40) and set(np.unique(label)) <= {0, 1, 2, 3, 4, 255}


def test_the_albumentations_row_makes_the_same_kind_of_sample(folder: Path) -> None:
    pytest.importorskip("albumentations")
    from bench.loaders.albumentations_chain import Composed

    dataset = Composed(ShardSet(folder, "train"), AUGMENT)
    for sample in range(6):
        image, label = dataset[sample]
        assert image.shape == (3, 32, 40) and image.dtype.is_floating_point
        assert label.shape == (32, 40) and set(np.unique(label)) <= {0, 1, 2, 3, 4, 255}


def test_the_decoded_row_holds_the_very_pixels(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.loaders import decoded

    shards = ShardSet(folder, "train")
    plain = Augment(crop=(50, 70), base_size=0, scale=(1.0, 1.0), rotate=0.0, flip=0.0, blur=0.0)
    cache = decoded.DecodedCache(shards, plain, tmp_path / "pixels")
    assert len(cache) == 6
    facts = shards.manifest
    for sample in range(6):
        image, label = cache[sample]
        back = image.numpy().transpose(1, 2, 0) * facts.std + facts.mean
        pixels, ids = decoded._pixels(shards, sample)
        assert np.array_equal(np.rint(255 * back), pixels) and np.array_equal(label, ids)
    monkeypatch.setattr(decoded, "LIMIT", 3 * 4 * 50 * 70)
    assert len(decoded.DecodedCache(shards, plain, tmp_path / "less")) == 3


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "find_spec", lambda name: None)
    assert "pip install webdataset" in str(loaders.obstacle("torchvision", 3))
    assert "4" in str(loaders.obstacle("dali", 4))
    assert loaders.obstacle("ours", 4) is None


def speeds(*values: float) -> list[dict[str, float]]:
    return [{"images_per_second": v, "cpu_seconds_per_image": 0.1, "peak_mb": 1.0} for v in values]


def summarized(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return fresh.summarize(found, loader_table.RATIOS)


def test_ratios_are_of_medians() -> None:
    table = summarized({"decode": speeds(90, 100, 300), "ours": speeds(50, 60, 40), "opencv": speeds(10, 11, 5)})
    assert table["ours"]["share_of_limit"] == pytest.approx(0.5)
    assert table["ours"]["times_opencv"] == pytest.approx(5)
    assert table["ours"]["spread"] == pytest.approx(20)
    text = loader_table.render(table, Setting("x", "train", Augment(crop=(500, 1000)), 8, 2, "cpu"))
    line = text.splitlines()[2]
    assert "25.0" in line  # 50 images/s of half a megapixel
    assert "40%" in line  # spread
    assert len({len(line) for line in text.splitlines()}) == 1  # columns line up


def test_what_an_augmentation_costs() -> None:
    table = summarized({"ours": speeds(50), "ours-no-blur": speeds(60)})
    table |= summarized({"ours-with-colors": speeds(60)})
    table["ours-no-blur"]["cpu_seconds_per_image"] = 0.0988
    table["ours-with-colors"]["cpu_seconds_per_image"] = 0.1003
    assert "blur +1.20, colors +0.30" in loader_table.costs(table)
    assert not loader_table.costs({"ours": table["ours"]})


def test_noisy_repeats_are_told() -> None:
    assert fresh.noise(summarized({"ours": speeds(100, 99, 90)})) == ""
    assert "40% apart" in fresh.noise(summarized({"decode": speeds(100), "ours": speeds(50, 60, 40)}))


def bound_of(
    stages: tuple[float, float, float, float], busy: float = 2.0, read_speed: float = 9999.0, device: str = "cpu"
) -> str:
    names = ("read_seconds", "decode_seconds", "warp_seconds", "rest_seconds")
    ours = {"images_per_second": 100.0, "busy_cores": busy, **dict(zip(names, stages, strict=True))}
    read = {"images_per_second": read_speed, "cpu_seconds_per_image": 0.001}
    table = {"ours": ours, "read": read, "decode": {"images_per_second": 110.0}}
    return bounds.sentence(table, 2, device)


def test_the_sentence_names_what_bounds_us() -> None:
    assert bound_of((0, 0.010, 0.005, 0.001)).startswith("Bounded by decode: the 2 threads are busy for 100%")
    assert bound_of((0, 0.004, 0.012, 0.001)).startswith("Bounded by warp")
    assert bound_of((0, 0.004, 0.002, 0.010)).startswith("Bounded by hand-over")
    assert bound_of((0, 0.010, 0.005, 0.001), busy=1.0).startswith(
        "Bounded by hand-over: the 2 threads are busy for 50%"
    )
    one = {"images_per_second": 100.0, "busy_cores": 0.3, "read_seconds": 0, "decode_seconds": 0.01}
    said = bounds.sentence({"ours": {**one, "warp_seconds": 0, "rest_seconds": 0}}, 1, "cpu")
    assert said.startswith("Bounded by hand-over: the thread is busy for 30%")
    assert bound_of((0, 0.010, 0.005, 0.001), read_speed=110.0).startswith("Bounded by read: 91%")
    assert "read 1.00" in bound_of((0, 0.010, 0.005, 0.001))  # taken out of the decoder's time
    assert bound_of((0, 0, 0, 0), device="gpu").startswith("Bounded by decode: 91%")
    assert bounds.sentence({"decode": {"images_per_second": 1.0}}, 2, "cpu") == ""


def test_stages_add_up_to_the_cpu_time(tmp_path: Path) -> None:
    from bench.measuring import process

    # large enough for decode and warp to be seen at work
    folder = write_shards(tmp_path / "data", {"train": [smooth_scene(300, 400, i) for i in range(4)]})
    batches = loaders.start("ours", Setting(str(folder), "train", Augment(crop=(300, 300)), 4, 1, "cpu"))
    next(batches)
    # Stages looks now and then: on a busy machine half a second of work may show it nothing of the shorter stage
    for enough in (0.5, 2.0, 8.0):
        before = process.cpu_seconds()
        with Stages() as stages:
            while process.cpu_seconds() < before + enough:
                next(batches)
        spent = process.cpu_seconds() - before
        if stages.seconds["decode"] > 0 and stages.seconds["warp"] > 0:
            break
    assert set(stages.seconds) == {"read", "decode", "warp", "rest"}
    assert stages.seconds["decode"] > 0 and stages.seconds["warp"] > 0
    assert sum(stages.seconds.values()) == pytest.approx(spent, rel=0.3)


def test_a_row_that_dies_says_so(tmp_path: Path) -> None:
    with pytest.raises(RowFailed, match=r"row 'ours' failed: .*does not exist"):
        in_process("ours", Setting(str(tmp_path / "none"), "train", AUGMENT, 4, 1, "cpu"), 0.1)


def test_facts_of_a_row(folder: Path) -> None:
    facts = measure(
        "ours", Setting(str(folder), "train", AUGMENT, 4, 2, "cpu"), 0.4
    )  # a busy machine may give no CPU for less
    assert facts["images_per_second"] > 0 and facts["peak_mb"] > 10
    assert facts["decode_seconds"] + facts["warp_seconds"] + facts["rest_seconds"] > 0


def test_bars_are_as_long_as_their_values(tmp_path: Path) -> None:
    bars = [Bar("fast", 100, 90, 100, ours=True), Bar("slow", 50, 50, 50, ours=True)]
    draw([Chart("speeds", "images/s", bars)], tmp_path / "bars.png")
    pixels = np.asarray(Image.open(tmp_path / "bars.png").convert("RGB")).astype(int)
    blue = np.abs(pixels - OURS).max(axis=2) < 30
    lengths = [int(run.sum(axis=1).max()) for run in np.array_split(blue[46:114], 2)]
    assert lengths[0] == pytest.approx(2 * lengths[1], rel=0.05)


def fake(row: str, setting: Setting, seconds: float) -> dict[str, float]:
    """A measurement without the wait."""
    stages = {f"{stage}_seconds": 0.01 for stage in ("read", "decode", "warp", "rest")}
    speed = {"read": 900.0, "decode": 90.0, "ours": 60.0, "opencv": 10.0}.get(row, 50.0)
    return speeds(speed)[0] | {"busy_cores": 2.0} | stages


def test_the_command_writes_tables_json_and_bars(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_loader, "in_process", fake)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "augment: {crop: [32, 40], base_size: 64}\ndata: {batch_size: 2}\ntrain: {steps: 1}\nnet: {name: enet}\n"
    )
    titles, chart = [], plots._chart
    monkeypatch.setattr(plots, "_chart", lambda canvas, one, top: (titles.append(one.title), chart(canvas, one, top)))
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    arguments = [str(folder), "--cfg", str(recipe), "--rows", "all", "--repeats", "2", "--json", str(out)]
    done = CliRunner().invoke(command, [*arguments, "--plot", str(plot)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "6 images of 70x50" in done.output and "crop 40x32, batch 2" in done.output
    assert "Bounded by" in done.output and "CPU ms an image of each augmentation" in done.output
    found = json.loads(out.read_text())
    (table,) = found["tables"].values()
    rows = set(ROWS) - {"ours-cpu"}
    assert set(table["rows"]) == rows and "'ours-cpu' is left out: it needs --device gpu" in done.output
    assert all(len(table["repeats"][row]) == 2 for row in rows)
    assert found["versions"]["torch"]
    assert Image.open(plot).size[1] > 30 * len(rows)
    assert len(titles) == 1 and f"crop 40x32, batch 2, {available_threads()} thread" in titles[0]


def test_without_a_folder_each_size_gets_a_table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_loader, "in_process", fake)
    monkeypatch.setattr(scenes, "make", lambda size, scratch: folder)
    done = CliRunner().invoke(command, ["--batch", "2", "--repeats", "1"], catch_exceptions=False)
    for name in scenes.DEFAULT:
        assert scenes.SIZES[name].title in done.output
    assert done.output.count("Bounded by") == 3
    assert "crop 768x768" in done.output and "crop 380x380" in done.output


def test_a_row_that_fails_does_not_cost_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_fails(row: str, setting: Setting, seconds: float) -> dict[str, float]:
        if row == "dali":
            raise RowFailed("row 'dali' failed: no such operator")
        return fake(row, setting, seconds)

    monkeypatch.setattr(bench_loader, "in_process", one_fails)
    arguments = [str(folder), "--batch", "2", "--repeats", "1", "--rows"]
    done = CliRunner().invoke(command, [*arguments, "ours,dali"], catch_exceptions=False, standalone_mode=False)
    assert "no such operator" in done.output and "segrail" in done.output
    assert done.return_value == 1
    with pytest.raises(UserError, match="every row failed"):
        CliRunner().invoke(command, [*arguments, "dali"], catch_exceptions=False)


def test_a_row_gets_no_more_cores_than_threads() -> None:
    code = "import os; from bench.rows.loader import _keep_to; _keep_to(1); print(len(os.sched_getaffinity(0)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.slow
def test_the_bench_draws_its_own_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = scenes.Size("small", "cityscapes", ("--train", "2", "--size", "64x128"), (), AUGMENT, "")
    monkeypatch.setitem(scenes.SIZES, "small", small)
    made = scenes.make("small", tmp_path)
    assert len(ShardSet(made, "train")) == 2
    assert scenes.make("small", tmp_path) == made  # found, not drawn again


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for arguments, message in (
        ([str(folder), "--rows", "our"], "did you mean 'ours'"),
        (["--sizes", "vok"], "did you mean 'voc'"),
        ([str(folder), "--split", "val"], "no split 'val'"),
        ([str(folder), "--batch", "7"], "fewer than a batch of 7"),
        ([str(folder), "--json", str(tmp_path / "no" / "x.json")], "the folder .* does not exist"),
        ([str(folder), "--plot", str(tmp_path)], "is a folder: give a file's name"),
        ([str(folder), "--seconds", "nan"], "expected a number of seconds"),
        (["/nowhere"], "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            runner.invoke(command, arguments, catch_exceptions=False)
