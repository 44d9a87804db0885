"""The loss of a recipe: terms and the auxiliary head, summed by their weights."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import count
from train.losses import class_weights
from train.losses.class_weights import PixelCounts
from train.losses.config import LossConfig
from train.losses.overlap import dice, lovasz_softmax
from train.losses.pixelwise import cross_entropy, cross_entropy_over_all, focal, log_probabilities


class Logits(Protocol):
    """What a net returns in training."""

    @property
    def out(self) -> Tensor: ...

    @property
    def aux(self) -> Tensor | None: ...


class SegmentationLoss(nn.Module):
    """Logits and labels -> the loss to call backward on, and its parts to log.

    Computed in float32 whatever autocast says, and over the valid pixels of all ranks (train.losses.ranks says how).
    Under `train()` every rank must call it equally often; under `eval()` it speaks for its own rank alone.
    Labels of 255 count nowhere, but in the divisor of `ce_mean: all`. A batch without a valid pixel gives 0, and zero
    gradients.
    """

    weights: Tensor | None  # per class
    alpha: Tensor
    bad_pixels: Tensor  # on a GPU: how many labels were outside the classes so far

    def __init__(self, config: LossConfig, num_classes: int, counts: PixelCounts | None = None) -> None:
        """counts: of the training split, from the manifest; needed unless `class_weights` is none or a list."""
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        weights = class_weights.resolve(config.class_weights, counts or PixelCounts([0] * num_classes))
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)
        alpha = config.focal_alpha
        if isinstance(alpha, list) and len(alpha) != num_classes:
            raise UserError(
                f"loss.focal_alpha has {count(len(alpha), 'number')}, the dataset has {num_classes} classes: give "
                "one a class"
            )
        self.register_buffer("alpha", torch.tensor(alpha), persistent=False)
        self.register_buffer("bad_pixels", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, logits: Logits, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """logits.out [N,K,H,W] of any float type, labels [N,H,W] uint8 -> (scalar float32, detached scalars by name).

        The names: "loss", each term of `out` before its weight, and "aux", the auxiliary head's loss before
        `aux_weight`. Each is this rank's share: the mean over ranks is the value of the global batch.
        On a CPU a label outside the classes raises UserError. On a GPU that check would wait for the device: the
        pixel is ignored and the loss turns NaN, so that the run stops there; `bad_pixels` then tells the cause.
        """
        with torch.autocast(labels.device.type, enabled=False):
            targets, invalid = self._targets(labels)
            loss, parts = self._head(logits.out, targets)
            if logits.aux is not None and self.config.aux_weight:
                aux, _ = self._head(logits.aux, targets)
                parts["aux"] = aux.detach()
                loss = loss + self.config.aux_weight * aux
            if invalid is not None:
                loss = loss + invalid
        return loss, {"loss": loss.detach(), **parts}

    def _targets(self, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        bad = bad_labels(labels, self.num_classes)
        if labels.device.type == "cpu":
            if bad.any():
                values = sorted(set(labels[bad].tolist()))
                raise UserError(
                    f"labels hold {values}, outside the {self.num_classes} classes and not {IGNORE}: "
                    "check the shards with `python -m ingest verify`"
                )
            return labels.long(), None
        count = bad.sum()
        self.bad_pixels += count
        invalid = torch.zeros((), device=labels.device).masked_fill(count > 0, torch.nan)
        return labels.long().masked_fill(bad, IGNORE), invalid

    def _head(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"the net gives {logits.shape[1]} classes, the loss was made for {self.num_classes}")
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if logits.shape[2:] != targets.shape[1:]:  # a head that predicts at its own stride
            logits = F.interpolate(logits, size=targets.shape[1:], mode="bilinear", align_corners=False)
        terms = self.config.terms()
        log_probs = log_probabilities(logits, by_class="lovasz" in terms)  # once, for all terms
        parts = {term: self._term(term, log_probs, targets) for term in terms}
        loss = sum((weight * parts[term] for term, weight in terms.items()), start=log_probs.new_zeros(()))
        return loss, {term: value.detach() for term, value in parts.items()}

    def _term(self, term: str, log_probs: Tensor, targets: Tensor) -> Tensor:
        config = self.config
        if term == "ce":
            mean = cross_entropy_over_all if config.ce_mean == "all" else cross_entropy
            return mean(
                log_probs,
                targets,
                class_weights=self.weights,
                label_smoothing=config.label_smoothing,
                ohem=(config.ohem_fraction, config.ohem_threshold),
                across_ranks=self.training,
            )
        if term == "focal":
            alpha = self.alpha if isinstance(config.focal_alpha, list) else config.focal_alpha
            return focal(
                log_probs,
                targets,
                gamma=config.focal_gamma,
                alpha=alpha,
                class_weights=self.weights,
                across_ranks=self.training,
            )
        if term == "dice":
            return dice(log_probs, targets, across_ranks=self.training)
        return lovasz_softmax(
            log_probs,
            targets,
            classes=config.lovasz_classes,
            per_image=config.lovasz_per_image,
            across_ranks=self.training,
        )


def bad_labels(labels: Tensor, num_classes: int) -> Tensor:
    """labels [N,H,W] uint8 -> bool [N,H,W]: neither a class nor 255."""
    return (labels >= num_classes) & (labels != IGNORE)
