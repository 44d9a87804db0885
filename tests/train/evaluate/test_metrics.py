"""The confusion matrix against a count pixel by pixel, and the scores against their definition over sets."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from ingest.errors import UserError
from tests.train import two_ranks
from train.evaluate.metrics import ConfusionMatrix, scores

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def draw(k, seed=0, shape=(3, 7, 9)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, k, shape, generator=generator, dtype=torch.uint8)
    labels[torch.rand(shape, generator=generator) < 0.2] = 255
    predicted = torch.randint(0, k, shape, generator=generator)
    return predicted, labels


def count(predicted, labels, k):
    matrix = [[0] * k for _ in range(k)]
    for p, t in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if t != 255:
            matrix[t][p] += 1
    return matrix


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [2, 5, 171, 255])
def test_equals_a_count_pixel_by_pixel(k, device):
    confusion = ConfusionMatrix(k, device)
    expected = [[0] * k for _ in range(k)]
    for seed in range(3):
        predicted, labels = draw(k, seed)
        confusion.update(predicted.to(device), labels.to(device))
        step = count(predicted, labels, k)
        expected = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(expected, step, strict=True)]
    assert confusion.result().matrix == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_predictions(dtype):
    predicted, labels = draw(200)
    confusion = ConfusionMatrix(200, "cpu")
    confusion.update(predicted.to(dtype), labels)
    assert confusion.result().matrix == count(predicted, labels, 200)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_logits_mean_their_largest_class(dtype, memory_format):
    predicted, labels = draw(6)
    logits = torch.nn.functional.one_hot(predicted, 6).permute(0, 3, 1, 2).to(dtype)
    logits = logits.contiguous(memory_format=memory_format).requires_grad_()
    confusion = ConfusionMatrix(6, "cpu")
    confusion.update(logits, labels)
    assert confusion.result().matrix == count(predicted, labels, 6)


def test_scores_are_sets_of_pixels():
    k = 5
    predicted, labels = draw(k)
    confusion = ConfusionMatrix(k, "cpu")
    confusion.update(predicted, labels)
    got = confusion.result()
    there = [
        (i, int(t), int(p))
        for i, (t, p) in enumerate(zip(labels.flatten(), predicted.flatten(), strict=True))
        if t != 255
    ]
    for c in range(k):
        truth = {i for i, t, _ in there if t == c}
        guess = {i for i, _, p in there if p == c}
        assert got.iou[c] == len(truth & guess) / len(truth | guess)
        assert got.class_accuracy[c] == len(truth & guess) / len(truth)
    assert got.miou == pytest.approx(sum(got.iou) / k)
    assert got.mean_class_accuracy == pytest.approx(sum(got.class_accuracy) / k)
    assert got.pixel_accuracy == sum(t == p for _, t, p in there) / len(there)


def test_absent_classes():
    # class 1 is predicted but never there; class 2 is neither
    got = scores(torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert got.iou == [6 / 8, 0.0, None]
    assert got.class_accuracy == [6 / 8, None, None]
    # as cityscapesscripts: a class that is predicted but never there counts with 0
    assert got.miou == (6 / 8 + 0) / 2 and got.counted == 2
    assert got.mean_class_accuracy == 6 / 8 and got.pixel_accuracy == 6 / 8


def test_nothing_counted():
    confusion = ConfusionMatrix(3, "cpu")
    confusion.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255, dtype=torch.uint8))
    got = confusion.result()
    assert got.miou is None and got.pixel_accuracy is None and got.iou == [None] * 3


def test_reset_and_all_reduce_without_ranks():
    predicted, labels = draw(3)
    confusion = ConfusionMatrix(3, "cpu")
    confusion.update(predicted, labels)
    whole = confusion.all_reduce()
    assert whole.result() == confusion.result()
    confusion.reset()
    assert confusion.result().miou is None and whole.result().miou is not None


def count_own(rank):
    """Rank r counts batches r and r + 2, the whole twice: all_reduce must not add into the rank's own."""
    confusion = ConfusionMatrix(4, "cpu")
    for seed in (rank, rank + 2):
        confusion.update(*draw(4, seed))
    before = confusion.result().matrix
    wholes = [confusion.all_reduce().result().matrix for _ in range(2)]
    return {"wholes": wholes, "before": before, "after": confusion.result().matrix}


def test_all_reduce_adds_the_ranks_up(tmp_path):
    everything = ConfusionMatrix(4, "cpu")
    for seed in range(4):
        everything.update(*draw(4, seed))
    for found in two_ranks.run(count_own, tmp_path):
        assert found["wholes"] == [everything.result().matrix] * 2
        assert found["before"] == found["after"] != found["wholes"][0]


def test_scores_are_json():
    json.dumps(asdict(scores(torch.eye(3, dtype=torch.int64))), allow_nan=False)


def test_inputs_stay_as_they_are():
    predicted, labels = draw(3)
    before = predicted.clone(), labels.clone()
    ConfusionMatrix(3, "cpu").update(predicted, labels)
    assert torch.equal(predicted, before[0]) and torch.equal(labels, before[1])


class TestMistakes:
    @pytest.mark.parametrize(("p", "t"), [(0, 3), (0, 254), (3, 0), (-1, 0)])
    def test_values_outside_the_classes(self, p, t):
        confusion = ConfusionMatrix(3, "cpu")
        confusion.update(torch.full((1, 1, 1), p), torch.full((1, 1, 1), t, dtype=torch.uint8))
        with pytest.raises(UserError, match="1 pixels have a label or prediction outside the 3 classes"):
            confusion.result()

    def test_any_prediction_is_fine_where_the_label_is_ignored(self):
        confusion = ConfusionMatrix(3, "cpu")
        confusion.update(torch.full((1, 1, 1), 255), torch.full((1, 1, 1), 255, dtype=torch.uint8))
        assert confusion.result().matrix == [[0] * 3] * 3

    def test_shapes_that_differ(self):
        with pytest.raises(ValueError, match="differ in shape"):
            ConfusionMatrix(3, "cpu").update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3, dtype=torch.uint8))


@pytest.mark.gpu
def test_update_never_waits_for_a_gpu():
    logits, labels = torch.randn(2, 21, 64, 64, device="cuda"), torch.randint(0, 21, (2, 64, 64), device="cuda")
    confusion = ConfusionMatrix(21, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        confusion.update(logits, labels.to(torch.uint8))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert confusion.result().pixel_accuracy is not None
