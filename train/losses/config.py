"""The recipe's `loss` section: which terms, how much of each, and their settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.errors import UserError
from pipeline import checks
from train.losses import class_weights

TERMS = ("ce", "dice", "focal", "lovasz")


@dataclass
class LossConfig:
    """The loss is the weighted sum of its terms, plus `aux_weight` times the same sum at the auxiliary head.

    In a recipe: `loss: {ce: 1.0, lovasz: 0.5}`. Without any term it is plain cross-entropy.
    """

    ce: float | None = None
    """Weight of cross-entropy. Left out: 1 when no other term is named, else 0."""

    dice: float = 0.0
    """Weight of soft Dice, over the classes present in the batch. `{ce: 1.0, dice: 1.0}` is CE+Dice."""

    focal: float = 0.0
    """Weight of the focal loss."""

    lovasz: float = 0.0
    """Weight of Lovász-softmax, the surrogate of IoU."""

    aux_weight: float = 0.4
    """Weight of the auxiliary head's loss, for nets that have one (PSPNet's paper: 0.4)."""

    class_weights: str | list[float] = field(
        default="none", metadata={"expected": "none, frequency, median_frequency, enet or a list of numbers"}
    )
    """Weights in ce and focal: none | frequency | median_frequency | enet (from dataset.json), or a list."""

    label_smoothing: float = 0.0
    """Share of each target that ce spreads evenly over all classes, in [0, 1)."""

    ohem_fraction: float | None = None
    """Online hard example mining in ce: learn from this share of the valid pixels, the hardest ones, in (0, 1]."""

    ohem_threshold: float | None = None
    """The same by confidence: learn from pixels whose true class has a probability below this, in (0, 1]. With
    `ohem_fraction` too, a pixel that either picks counts (the usual form: 0.7, and at least a fraction)."""

    ce_mean: str = "valid"
    """What ce's sum over the labeled pixels is divided by: the number of those (`valid`), or of `all` pixels of the
    crops, unlabeled and padded ones too, as mmsegmentation does."""

    focal_gamma: float = 2.0
    """Focal loss: how strongly easy pixels are turned down; 0 is cross-entropy."""

    focal_alpha: float | list[float] = field(
        default=1.0, metadata={"expected": "a number above 0, or a list of numbers, one a class"}
    )
    """Focal loss: a factor for all classes, or one a class. It scales the loss, and is not divided out again."""

    lovasz_classes: str = "present"
    """Lovász over the classes `present` in the ground truth, or over `all`."""

    lovasz_per_image: bool = False
    """Lovász for each image, then the mean; or over the batch as one large image."""

    def __post_init__(self) -> None:
        if self.ce is None:
            self.ce = 0.0 if self.dice or self.focal or self.lovasz else 1.0
        for term in (*TERMS, "aux_weight", "focal_gamma"):
            checks.number(f"loss.{term}", getattr(self, term), "[0, inf)")
        if not self.terms():
            raise UserError(f"loss has no term: give one of {', '.join(TERMS)} a weight above 0, such as loss.ce=1")
        class_weights.check(self.class_weights)
        checks.number("loss.label_smoothing", self.label_smoothing, "[0, 1)")
        for key in ("ohem_fraction", "ohem_threshold"):
            if getattr(self, key) is not None:
                checks.number(f"loss.{key}", getattr(self, key), "(0, 1]")
        if isinstance(self.focal_alpha, list):
            for index, alpha in enumerate(self.focal_alpha):
                checks.number(f"loss.focal_alpha[{index}]", alpha, "[0, inf)")
        else:
            checks.number("loss.focal_alpha", self.focal_alpha, "(0, inf)")
        checks.one_of("loss.ce_mean", self.ce_mean, ("valid", "all"))
        checks.one_of("loss.lovasz_classes", self.lovasz_classes, ("present", "all"))

    def terms(self) -> dict[str, float]:
        """The terms in use -> their weights, above 0."""
        return {term: getattr(self, term) for term in TERMS if getattr(self, term)}
