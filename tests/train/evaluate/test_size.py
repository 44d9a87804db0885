"""data.val_size: the net sees scaled images, the labels stay at their own size. data.val_path: another folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.loader import EvalLoader
from tests.shard_folder import smooth_scene, write_shards
from train import build, config
from train.distributed import Ranks
from train.evaluate.evaluation import evaluate
from train.predict.windows import Inference, scaled_size, segment

ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


class Sees(nn.Module):
    """Notes the size of what it sees, and says class 1 where the red channel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape[-2:]))
        red = images[:, :1].float() - 127.5
        return torch.cat([-red, red], dim=1)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        (0, "longer", (1024, 2048)),
        (1024, "longer", (512, 1024)),
        (512, "shorter", (512, 1024)),
        (4096, "longer", (2048, 4096)),
        (1, "longer", (1, 1)),
    ],
)
def test_scaled_size(size: int, side: str, expected: tuple[int, int]) -> None:
    assert scaled_size(1024, 2048, size, side) == expected


def test_the_net_sees_scaled_images_and_answers_at_full_size() -> None:
    net = Sees().eval()
    images = torch.zeros(2, 3, 40, 60, dtype=torch.uint8)
    images[:, 0, :, 30:] = 255
    logits = segment(net, images, Inference(size=30))
    assert net.seen == [(20, 30)] and logits.shape == (2, 2, 40, 60) and logits.dtype == torch.float32
    found = logits.argmax(1)
    assert (found[:, :, :29] == 0).all() and (found[:, :, 31:] == 1).all()


def test_an_image_of_that_size_is_left_as_it_is_and_so_is_one_without_a_size() -> None:
    net = Sees().eval()
    images = torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)
    for how in (Inference(size=30), Inference()):
        assert torch.equal(segment(net, images, how), net(images))
    assert set(net.seen) == {(20, 30)}


def test_scores_are_taken_at_the_labels_size(toy: Path) -> None:
    shards = ShardSet(toy, "val")
    net = Sees()
    found = evaluate(net, EvalLoader(shards), ALONE, Inference(size=24, side="shorter"))
    pixels = sum(map(sum, found.scores.matrix))
    assert pixels == sum(shards.manifest.split("val").class_pixels), "every labeled pixel, at its own size"
    assert {min(size) for size in net.seen} == {24}


def test_a_run_validates_at_that_size(raw_recipe: dict[str, Any], tmp_path: Path) -> None:
    raw_recipe["data"] |= {"val_size": 32}
    run = build.run(config.parse(raw_recipe), ALONE, tmp_path / "run")
    seen: list[tuple[int, ...]] = []
    run.net.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    assert run.validator is not None
    run.validator.score(run.net, None, run.loss)
    assert seen and {max(size) for size in seen} == {32}


def test_validation_in_another_folder(raw_recipe: dict[str, Any], tmp_path: Path) -> None:
    other = write_shards(tmp_path / "other", {"val": [smooth_scene(24, 40, seed) for seed in range(3)]})
    raw_recipe["data"] |= {"val_path": str(other)}
    run = build.run(config.parse(raw_recipe), ALONE, tmp_path / "run")
    assert run.validator is not None and run.validator.loader.shards.folder == other
    assert run.validator.score(run.net, None, run.loss).images == 3


def test_a_validation_folder_of_other_classes_is_refused(raw_recipe: dict[str, Any], tmp_path: Path) -> None:
    other = write_shards(tmp_path / "other", {"val": [smooth_scene(24, 40, 1)]})
    facts = json.loads((other / "dataset.json").read_text())
    facts["classes"][0] = "lava"
    (other / "dataset.json").write_text(json.dumps(facts))
    raw_recipe["data"] |= {"val_path": str(other)}
    with pytest.raises(UserError, match=r"data.val_path = '.*other' has classes \['lava'.*same classes"):
        build.run(config.parse(raw_recipe), ALONE, tmp_path / "run")
