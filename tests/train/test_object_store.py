"""Training from an S3 bucket by two ranks of one machine: each shard comes once, the weights are those of a folder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from bench.measuring import object_store
from ingest.shards.remote import urls
from tests.shard_folder import smooth_scene, write_shards
from tests.train.test_ranks import start  # noqa: F401  (fixture)

pytestmark = pytest.mark.slow
STEPS = 30


def weights(saved: Path, name: str) -> dict[str, torch.Tensor]:
    (found,) = (saved / name).glob("*/checkpoints/last.pt")
    state = torch.load(found, weights_only=True)
    assert state["step"] == STEPS
    return state["model"]


@pytest.mark.timeout(1200)
def test_two_ranks(
    start: Any,  # noqa: F811
    raw_recipe: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    scenes = [smooth_scene(120, 160, seed) for seed in range(40)]
    local = write_shards(tmp_path / "local", {"train": scenes, "val": scenes[:4]}, schema=2)
    total = sum(path.stat().st_size for path in local.iterdir())
    monkeypatch.setenv("SEGRAIL_CACHE", str(tmp_path / "cache"))
    raw_recipe["data"] |= {"batch_size": 2, "shuffle_window": 3}
    raw_recipe["train"] |= {"steps": STEPS, "save_every_steps": 2, "val_every_steps": 15}

    def recipe(name: str, path: str) -> dict[str, Any]:
        return raw_recipe | {"name": name, "data": raw_recipe["data"] | {"path": path}}

    with object_store.serving(1e6) as (link, environment):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, environment[name])
        fsspec.filesystem("s3").mkdir("bench")
        urls.upload(local, "s3://bench/toy")
        before = link.bytes
        job = start(recipe("staged", "s3://bench/toy"), "--resume", "auto")
        job.until(lambda: "step 6/" in job.text)
        os.kill(job.ranks()[1], signal.SIGKILL)
        assert job.end() != 0
        again = start(recipe("staged", "s3://bench/toy"), "--resume", "auto")
        assert again.end() == 0, again.text
        carried = link.bytes - before
    assert "fetching" in job.text
    assert carried < 1.3 * total + 200_000  # dataset.json and answers' heads come to each; tars once
    assert not list((tmp_path / "cache").rglob("*.partial"))
    (log,) = (tmp_path / "saved" / "staged").glob("*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    rates = [line["staged_mb_per_second"] for line in lines if line["kind"] == "train"]
    stalls = [line["staging_stall_share"] for line in lines if line["kind"] == "train"]
    assert rates and max(rates) > 0 and all(0 <= share <= 1 for share in stalls)
    whole = start(recipe("whole", str(local)))
    assert whole.end() == 0, whole.text
    one, other = weights(tmp_path / "saved", "whole"), weights(tmp_path / "saved", "staged")
    assert all(torch.equal(one[name], other[name]) for name in one)
