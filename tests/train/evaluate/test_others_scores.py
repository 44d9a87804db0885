"""The same numbers as others' evaluators give: cityscapesscripts, scikit-learn, torchmetrics, VOC, ADE20K."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.datasets import cityscapes
from train.evaluate.metrics import ConfusionMatrix, scores

pytestmark = pytest.mark.peers


def masks(classes: int, shown: int, seed: int = 0, shape: tuple[int, ...] = (3, 40, 50)) -> Any:
    """Labels that show the first `shown` classes (some ignored), and predictions of a few of all."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, shown, shape).astype(np.uint8)
    predictions = np.where(random.random(shape) < 0.6, labels, random.integers(0, classes - 1, shape)).astype(np.uint8)
    labels[random.random(shape) < 0.1] = 255
    return labels, predictions


def ours(labels: np.ndarray, predictions: np.ndarray, classes: int, mean_over: Any = "union") -> Any:
    matrix = ConfusionMatrix(classes, "cpu")
    matrix.update(torch.from_numpy(predictions), torch.from_numpy(labels))
    return matrix.result(mean_over)


def test_cityscapesscripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its evaluation of PNGs of label ids: every class's IoU to the last bit, and the mean where classes are absent."""
    theirs = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    labels, predictions = masks(19, shown=12)
    predictions[predictions == 15] = 14  # class 15 occurs nowhere
    to_ids = np.zeros(256, np.uint8)  # ignored pixels: id 0, unlabeled
    to_ids[:19] = list(cityscapes.TRAINED)
    truth, guesses = [], []
    for i, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        truth.append(str(tmp_path / f"aachen_00000{i}_000019_gtFine_labelIds.png"))
        guesses.append(str(tmp_path / f"aachen_00000{i}_000019_pred.png"))
        Image.fromarray(to_ids[label]).save(truth[-1])
        Image.fromarray(to_ids[prediction]).save(guesses[-1])
    arguments = theirs.args
    arguments.evalInstLevelScore, arguments.JSONOutput, arguments.quiet = False, False, True
    found = theirs.evaluateImgLists(guesses, truth, arguments)
    mine = ours(labels, predictions, 19)
    for name, iou in zip(cityscapes.CLASSES, mine.iou, strict=True):
        expected = found["classScores"][name]
        assert iou is None if np.isnan(expected) else iou == expected, name
    assert mine.miou == pytest.approx(found["averageScoreClasses"], abs=1e-15)
    absent = sum(np.isnan(found["classScores"][name]) for name in cityscapes.CLASSES)
    assert mine.counted == 19 - absent < 19 and 0.0 in mine.iou, "a class nowhere, and one predicted only"


def test_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predictions = masks(7, shown=7)
    truth, guess = labels[labels != 255], predictions[labels != 255]
    mine = ours(labels, predictions, 7)
    assert mine.matrix == metrics.confusion_matrix(truth, guess, labels=range(7)).tolist()
    for name, found in (("jaccard_score", mine.iou), ("f1_score", mine.dice), ("recall_score", mine.class_accuracy)):
        expected = getattr(metrics, name)(truth, guess, labels=range(7), average=None)
        assert found == pytest.approx(expected.tolist(), abs=1e-12)
    assert mine.pixel_accuracy == pytest.approx(metrics.accuracy_score(truth, guess))
    assert mine.mean_class_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, guess))
    weighted = metrics.jaccard_score(truth, guess, average="weighted")
    assert mine.fw_iou == pytest.approx(weighted)


def test_torchmetrics() -> None:
    pytest.importorskip("torchmetrics")
    functional = importlib.import_module("torchmetrics.functional.classification")
    labels, predictions = masks(7, shown=7, seed=1)
    guess, truth = torch.from_numpy(predictions).long(), torch.from_numpy(labels).long()
    mine = ours(labels, predictions, 7)
    per_class = functional.multiclass_jaccard_index(guess, truth, 7, average=None, ignore_index=255)
    assert mine.iou == pytest.approx(per_class.tolist(), abs=1e-6)
    dice = functional.multiclass_f1_score(guess, truth, 7, average="macro", ignore_index=255)
    assert mine.mean_dice == pytest.approx(dice.item(), abs=1e-6)


def test_the_voc_and_ade20k_kits_count_absent_classes_with_nothing() -> None:
    """VOCevalseg.m: a denominator of 0 is set to 1. ADE20K's main.m: area of the union plus eps below."""
    labels, predictions = masks(9, shown=5, seed=2)
    valid = labels != 255
    intersections = np.array([((labels == c) & (predictions == c) & valid).sum() for c in range(9)])
    unions = np.array([(((labels == c) | (predictions == c)) & valid).sum() for c in range(9)])
    assert (unions == 0).any()
    voc = np.mean(intersections / np.where(unions == 0, 1, unions))
    ade = np.mean(intersections / (np.finfo(float).eps + unions))
    assert ours(labels, predictions, 9, "all").miou == pytest.approx(voc) == pytest.approx(ade)
    there = [c for c in range(9) if (labels == c).any()]
    assert ours(labels, predictions, 9, "labels").miou == pytest.approx(
        (intersections / np.maximum(unions, 1))[there].mean()
    )


def test_the_rules_agree_where_every_class_occurs() -> None:
    matrix = torch.randint(1, 100, (6, 6))
    assert len({scores(matrix, rule).miou for rule in ("union", "labels", "all")}) == 1
