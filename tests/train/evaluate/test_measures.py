"""Boundary scores, intervals, calibration and findings against their definitions, and on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from ingest.errors import UserError
from pipeline.batch import Batch
from tests.shard_folder import smooth_scene
from tests.train import two_ranks
from train.distributed import Ranks
from train.evaluate.boundary import Boundary, Width, boundary_counts
from train.evaluate.calibration import BINS, Calibration
from train.evaluate.findings import Findings
from train.evaluate.metrics import per_class_counts, scores
from train.evaluate.per_image import RESAMPLES, PerImage, bootstrap

ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def scene(seed: int, height: int = 48, width: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and a prediction: the label of a scene a little aside."""
    image, label = smooth_scene(height, width, seed)
    prediction = np.where(np.roll(label, 2 + seed % 3, axis=1) == 255, 0, np.roll(label, 2 + seed % 3, axis=1))
    return image, label, prediction.astype(np.uint8)


def shown(seeds: list[int], keys: list[str] | None = None) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    scenes = [scene(seed) for seed in seeds]
    images, labels, predictions = (torch.from_numpy(np.stack(each)) for each in zip(*scenes, strict=True))
    confidence = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seeds[0])) * 0.8 + 0.2
    return Batch(images.permute(0, 3, 1, 2), labels, keys or [f"k{seed}" for seed in seeds]), predictions, confidence


@pytest.mark.parametrize("width", [1, 3])
def test_boundary_iou_is_the_iou_of_bands(width: int) -> None:
    """By distances: a pixel is in the band where another class, or the image's end, is within `width`, squarely."""
    _, label, prediction = scene(1)
    label[label == 255] = 0  # the authors' definition knows no ignored pixels
    counts = boundary_counts(label, prediction, 5, width)
    for c in range(5):
        bands = []
        for ids in (label, prediction):
            inside = np.pad(ids == c, 1)
            distance = ndimage.distance_transform_cdt(inside, "chessboard")[1:-1, 1:-1]
            bands.append((distance > 0) & (distance <= width))
        assert counts[c, :2].tolist() == [(bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()]


def test_boundary_f_counts_outlines_within_a_distance() -> None:
    _, label, prediction = scene(2)
    label[label == 255] = 0
    counts = boundary_counts(label, prediction, 5, 3)
    for c in range(5):
        lines = []
        for ids in (label, prediction):
            inside = np.pad(ids == c, 1, mode="edge")  # the image's end is no outline
            eroded = ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=1)
            lines.append((inside & ~eroded)[1:-1, 1:-1])
        far = [ndimage.distance_transform_edt(~line) if line.any() else np.full(line.shape, 99) for line in lines]
        expected = [lines[1].sum(), (lines[1] & (far[0] <= 3)).sum(), lines[0].sum(), (lines[0] & (far[1] <= 3)).sum()]
        assert counts[c, 2:].tolist() == expected


def test_ignored_pixels_make_no_outline() -> None:
    label = np.zeros((20, 20), np.uint8)
    label[8:12] = 255
    assert not boundary_counts(label, np.zeros_like(label), 2, 2)[1].any()
    counts = boundary_counts(label, np.zeros_like(label), 2, 2)[0]
    assert counts[2:].sum() == 0, "one class all over has no outline"
    assert counts[0] == counts[1] == 20 * 20 - 16 * 16 - 4 * 4, "the band along the image's edge, less what is ignored"


def test_a_width_is_pixels_or_a_share_of_the_diagonal() -> None:
    assert Width.parse("3px").of(30, 40) == 3 and Width.parse("2%").of(300, 400) == 10
    assert Width.parse("0.1%").of(30, 40) == 1
    for wrong in ("3", "px", "0px", "1.5px", "0%", "50%", "-1px"):
        with pytest.raises(UserError, match="expected whole pixels such as 3px"):
            Width.parse(wrong)


def test_the_interval_is_the_bootstrap_of_the_scores() -> None:
    counts = []
    for seed in range(8):
        _, label, prediction = scene(seed)
        counts.append(per_class_counts(torch.from_numpy(prediction)[None], torch.from_numpy(label)[None], 5)[0].numpy())
    found = bootstrap(np.stack(counts))
    draws = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), RESAMPLES)
    values = []
    for draw in draws:
        hits, truth, guess = sum(times * each for times, each in zip(draw, counts, strict=True))
        union = truth + guess - hits
        values.append(np.mean(hits[union > 0] / union[union > 0]))
    assert (found["miou"].low, found["miou"].high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert found["miou"].low < found["miou"].high and set(found) == {"miou", "pixel_accuracy"}


def test_one_image_has_no_interval() -> None:
    keeper = PerImage(5)
    batch, predictions, _ = shown([0])
    keeper.look(batch, predictions)
    assert keeper.intervals(ALONE, "union") == {}


def test_calibration_is_the_mean_gap_of_the_bins() -> None:
    batch, predictions, confidence = shown([0, 1, 2])
    counter = Calibration(torch.device("cpu"))
    counter.look(batch, predictions, confidence)
    found = counter.result(ALONE)
    assert batch.labels is not None
    valid = batch.labels != 255
    sure, right = confidence[valid].double().numpy(), (predictions == batch.labels)[valid].numpy()
    bins = np.clip(np.ceil(sure * BINS) - 1, 0, BINS - 1)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    assert found.ece == pytest.approx(sum(gaps), abs=1e-6) and sum(found.pixels) == valid.sum()
    assert found.pixels[0] == 0 and found.accuracy[0] is None


@pytest.mark.peers
def test_calibration_equals_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    logits = 3 * torch.randn(2, 5, 30, 40, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 5, (2, 30, 40), dtype=torch.uint8)
    expected = functional.multiclass_calibration_error(logits, labels.long(), 5, n_bins=BINS, norm="l1")
    counter = Calibration(torch.device("cpu"))
    confidence, predictions = logits.softmax(1).max(1)
    images = torch.zeros(2, 3, 30, 40, dtype=torch.uint8)
    counter.look(Batch(images, labels, ["a", "b"]), predictions.to(torch.uint8), confidence)
    assert counter.result(ALONE).ece == pytest.approx(expected.item(), abs=1e-5)


def test_suspects_are_the_largest_areas_where_the_net_is_sure() -> None:
    label = np.zeros((60, 80), np.uint8)
    prediction = label.copy()
    prediction[10:20, 10:30] = 1  # 200 pixels, sure
    prediction[40:50, 10:20] = 1  # 100 pixels, sure
    prediction[30:55, 40:75] = 2  # 875 pixels, not sure
    confidence = np.full(label.shape, 0.99, np.float32)
    confidence[30:55, 40:75] = 0.5
    image = torch.zeros(1, 3, 60, 80, dtype=torch.uint8)
    keeper = Findings()
    batch = Batch(image, torch.from_numpy(label)[None], ["x"])
    keeper.look(batch, torch.from_numpy(prediction)[None], torch.from_numpy(confidence)[None])
    assert [(area.predicted, area.pixels) for area in keeper.suspects(ALONE)] == [(1, 200), (1, 100)]
    pairs = keeper.pairs(ALONE)
    assert {pair: area.pixels for pair, area in pairs.items()} == {(0, 1): 200, (0, 2): 875}
    inside = np.zeros((60, 80), bool)
    y, x, height, width = pairs[0, 1].box
    inside[y : y + height, x : x + width] = pairs[0, 1].inside
    assert inside[10:20, 10:30].all() and inside.sum() == 200, "of two areas of a pair, the one that is meant"
    y, x, height, width = pairs[0, 2].box
    assert y <= 30 and x <= 40 and y + height >= 55 and x + width >= 75


def measured(rank: int, ranks: int, order: list[list[int]]) -> dict[str, Any]:
    """All measures of twelve scenes, in batches dealt to the ranks."""
    place = Ranks(rank, ranks, rank, ranks, torch.device("cpu"))
    keepers: Any = (PerImage(5), Calibration(place.device), Boundary(5, Width(2)), Findings())
    for number, seeds in enumerate(order):
        if number % ranks == rank:
            for keeper in keepers:
                parts = [shown([seed]) for seed in seeds]
                labels = torch.cat([part[0].labels for part in parts if part[0].labels is not None])
                batch = Batch(torch.cat([part[0].images for part in parts]), labels, [f"k{seed}" for seed in seeds])
                keeper.look(batch, torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts]))
    per_image, calibration, boundary, findings = keepers
    found = {
        "intervals": per_image.intervals(place, "union"),
        "calibration": calibration.result(place),
        "boundary": boundary.result(place),
        "suspects": [area.order for area in findings.suspects(place)],
        "pairs": {str(pair): area.order for pair, area in findings.pairs(place).items()},
    }
    return {name: repr(value) for name, value in found.items()}


def measured_by_two(rank: int) -> dict[str, Any]:
    return measured(rank, 2, [[7, 6, 5], [4], [3, 2, 1, 0], [11, 10], [9, 8]])


def test_the_same_digits_at_any_world_and_batch_size(tmp_path: Path) -> None:
    alone = measured(0, 1, [[seed] for seed in range(12)])
    assert "pixels" not in alone["suspects"] and len(alone["pairs"]) > 10
    for found in two_ranks.run(measured_by_two, tmp_path):
        assert found == alone


def test_means_of_dice_and_frequency() -> None:
    got = scores(torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert got.dice == [12 / 14, 0.0, None] and got.mean_dice == pytest.approx(6 / 14)
    assert got.fw_iou == 6 / 8
