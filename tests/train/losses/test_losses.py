"""Each term against its definition in plain float64 loops, and what all of them promise."""

from __future__ import annotations

import dataclasses
import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from ingest.errors import UserError
from train.losses import LossConfig, SegmentationLoss, bad_labels
from train.losses.class_weights import PixelCounts
from train.losses.pixelwise import cross_entropy, focal, hardest

K, IGNORE = 4, 255


@dataclasses.dataclass
class Logits:
    out: torch.Tensor
    aux: torch.Tensor | None = None


@pytest.fixture
def batch():
    """logits [2,K,5,6] float64, labels [2,5,6] uint8 with some 255, class 3 absent."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, K, 5, 6, generator=draw, dtype=torch.float64) * 2
    labels = torch.randint(0, K - 1, (2, 5, 6), generator=draw, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=draw) < 0.2] = IGNORE
    return logits, labels


def pixels(logits, labels):
    """Valid pixels as (probabilities as a list, true class)."""
    probs = logits.softmax(dim=1)
    for n in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[n, y, x] != IGNORE:
                    yield probs[n, :, y, x].tolist(), int(labels[n, y, x])


ALL_TERMS = [
    {"ce": 1.0},
    {"ce": 1.0, "class_weights": [0.5, 1.0, 2.0, 3.0], "label_smoothing": 0.1},
    {"ce": 1.0, "ce_mean": "all"},
    {"ce": 1.0, "ohem_fraction": 0.3},
    {"ce": 1.0, "ohem_threshold": 0.4},
    {"focal": 1.0},
    {"focal": 1.0, "focal_gamma": 0.5, "focal_alpha": [0.1, 0.2, 0.3, 0.4]},
    {"dice": 1.0},
    {"lovasz": 1.0},
    {"lovasz": 1.0, "lovasz_per_image": True},
    {"lovasz": 1.0, "lovasz_classes": "all"},
    {"lovasz": 1.0, "lovasz_classes": "all", "lovasz_per_image": True},
]
EVERY_TERM = pytest.mark.parametrize("settings", ALL_TERMS, ids=str)


def asks_which_are_present(settings):
    """Lovász over the present classes waits for the device once a call, as its docstring says."""
    return "lovasz" in settings and settings.get("lovasz_classes", "present") == "present"


def loss_of(settings, logits, labels, aux=None):
    return SegmentationLoss(LossConfig(**settings), logits.shape[1])(Logits(logits, aux), labels)[0]


class TestCrossEntropy:
    def test_equals_the_definition(self, batch):
        logits, labels = batch
        expected = [-math.log(p[c]) for p, c in pixels(logits, labels)]
        assert loss_of({}, logits, labels).item() == pytest.approx(sum(expected) / len(expected), rel=1e-12)

    @pytest.mark.parametrize("weights", [[1.0] * K, [0.5, 1.0, 2.0, 3.0]])
    def test_over_all_pixels_ignored_ones_are_in_the_divisor(self, batch, weights):
        logits, labels = batch
        top = sum(-math.log(p[c]) * weights[c] for p, c in pixels(logits, labels))
        found = loss_of({"ce_mean": "all", "class_weights": weights}, logits, labels)
        assert found.item() == pytest.approx(top / labels.numel(), rel=1e-6)
        plain = loss_of({"ce_mean": "all"}, logits, labels) / loss_of({}, logits, labels)
        assert plain.item() == pytest.approx((labels != IGNORE).sum().item() / labels.numel())

    def test_class_weights_are_divided_out(self, batch):
        logits, labels = batch
        weights = [0.5, 1.0, 2.0, 3.0]
        top = sum(-math.log(p[c]) * weights[c] for p, c in pixels(logits, labels))
        expected = top / sum(weights[c] for _, c in pixels(logits, labels))
        assert loss_of({"class_weights": weights}, logits, labels).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 3.0]])
    def test_smoothing_and_weights_are_torchs(self, batch, weights):
        logits, labels = batch
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        expected = F.cross_entropy(logits, labels.long(), weight, ignore_index=IGNORE, label_smoothing=0.1)
        ours = cross_entropy(logits.log_softmax(1), labels.long(), class_weights=weight, label_smoothing=0.1)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("fraction", [0.01, 0.3, 1.0])
    def test_ohem_fraction_is_the_mean_of_the_hardest(self, batch, fraction):
        logits, labels = batch
        losses = sorted((-math.log(p[c]) for p, c in pixels(logits, labels)), reverse=True)
        kept = losses[: math.ceil(fraction * len(losses))]
        assert loss_of({"ohem_fraction": fraction}, logits, labels).item() == pytest.approx(sum(kept) / len(kept))

    def test_ohem_threshold_is_by_probability(self, batch):
        logits, labels = batch
        kept = [-math.log(p[c]) for p, c in pixels(logits, labels) if p[c] < 0.4]
        assert loss_of({"ohem_threshold": 0.4}, logits, labels).item() == pytest.approx(sum(kept) / len(kept))

    def test_ohem_keeps_what_either_picks(self):
        nll = -torch.tensor([[[0.9, 0.8, 0.6, 0.5]]]).log()
        valid = torch.tensor([[[True, True, True, False]]])
        assert hardest(nll, valid, None, 0.7).tolist() == [[[False, False, True, False]]]
        assert hardest(nll, valid, 0.6, 0.7).tolist() == [[[False, True, True, False]]]

    def test_nothing_hard_enough_is_zero(self):
        logits = torch.zeros(1, K, 2, 2)
        logits[:, 0] = 20
        logits.requires_grad_()
        loss = loss_of({"ohem_threshold": 0.5}, logits, torch.zeros(1, 2, 2, dtype=torch.uint8))
        loss.backward()
        assert loss.item() == 0 and not logits.grad.any()


class TestFocal:
    @pytest.mark.parametrize("gamma", [0, 0.5, 2.0])
    @pytest.mark.parametrize("alpha", [1.0, 0.25, [0.1, 0.2, 0.3, 0.4]])
    def test_equals_the_definition(self, batch, gamma, alpha):
        logits, labels = batch
        scale = alpha if isinstance(alpha, list) else [alpha] * K
        each = [scale[c] * (1 - p[c]) ** gamma * -math.log(p[c]) for p, c in pixels(logits, labels)]
        loss = loss_of({"focal": 1.0, "focal_gamma": gamma, "focal_alpha": alpha}, logits, labels)
        assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-6)

    def test_is_finite_where_the_net_is_certain(self):
        logits = torch.zeros(1, K, 2, 2)
        logits[:, 0] = 200.0
        logits.requires_grad_()
        targets = torch.tensor([[[0, 0], [1, IGNORE]]])  # certain and right, certain and wrong
        focal(logits.log_softmax(1), targets, gamma=0.5).backward()
        assert logits.grad.isfinite().all()


class TestEveryTerm:
    @EVERY_TERM
    def test_gradient(self, batch, settings):
        logits, labels = batch
        # a small corner: the numeric gradient costs two passes a logit
        logits, labels = logits[:1, :, :3, :3].clone().requires_grad_(), labels[:1, :3, :3].contiguous()
        assert (labels != IGNORE).any()
        assert torch.autograd.gradcheck(lambda x: loss_of(settings, x, labels), logits)

    @EVERY_TERM
    def test_ignored_pixels_do_not_exist(self, batch, settings):
        logits, labels = batch
        ignored = labels == IGNORE
        other = logits.permute(0, 2, 3, 1).clone()
        other[ignored] = torch.randn(int(ignored.sum()), K, dtype=torch.float64) * 50
        other = other.permute(0, 3, 1, 2)
        first, second = logits.clone().requires_grad_(), other.clone().requires_grad_()
        a, b = loss_of(settings, first, labels), loss_of(settings, second, labels)
        a.backward()
        b.backward()
        assert a.item() == b.item()
        assert first.grad.permute(0, 2, 3, 1)[ignored].abs().sum() == 0
        assert second.grad.permute(0, 2, 3, 1)[ignored].abs().sum() == 0
        assert torch.equal(first.grad, second.grad)

    @EVERY_TERM
    def test_a_batch_without_a_valid_pixel_is_zero(self, settings):
        logits = torch.randn(2, K, 4, 4, requires_grad=True)
        loss = loss_of(settings, logits, torch.full((2, 4, 4), IGNORE, dtype=torch.uint8))
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None and not logits.grad.any()

    @EVERY_TERM
    def test_labels_stay_as_they_are(self, batch, settings):
        logits, labels = batch
        before = labels.clone()
        loss_of(settings, logits, labels)
        assert torch.equal(labels, before)

    @EVERY_TERM
    def test_channels_last_is_the_same(self, batch, settings):
        logits, labels = batch
        other = logits.contiguous(memory_format=torch.channels_last)
        assert loss_of(settings, other, labels).item() == pytest.approx(loss_of(settings, logits, labels).item())

    @EVERY_TERM
    def test_float32_inside_autocast(self, batch, settings):
        logits, labels = batch
        half = logits.bfloat16()
        expected = loss_of(settings, half.float(), labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(settings, half.requires_grad_(), labels)
        assert loss.dtype == torch.float32
        assert loss.item() == expected.item()
        loss.backward()
        assert half.grad.dtype == torch.bfloat16 and half.grad.isfinite().all()

    @EVERY_TERM
    def test_gradient_descent_brings_it_down(self, batch, settings):
        logits, labels = batch
        logits = logits.clone().requires_grad_()
        first = loss_of(settings, logits, labels)
        for _ in range(20):
            (grad,) = torch.autograd.grad(loss_of(settings, logits, labels), logits)
            logits = (logits - 2 * grad).detach().requires_grad_()
        assert loss_of(settings, logits, labels) < first


class TestCombination:
    def test_is_the_weighted_sum(self, batch):
        logits, labels = batch
        config = LossConfig(ce=0.5, focal=2.0)
        loss, parts = SegmentationLoss(config, K)(Logits(logits), labels)
        assert loss.item() == pytest.approx(0.5 * parts["ce"].item() + 2 * parts["focal"].item())
        assert set(parts) == {"loss", "ce", "focal"}
        assert parts["loss"].item() == loss.item() and not any(part.requires_grad for part in parts.values())

    def test_auxiliary_head_at_its_own_size(self, batch):
        logits, labels = batch
        aux = torch.randn(2, K, 3, 3, dtype=torch.float64, requires_grad=True)
        loss, parts = SegmentationLoss(LossConfig(aux_weight=0.3), K)(Logits(logits, aux), labels)
        full = F.interpolate(aux, size=(5, 6), mode="bilinear", align_corners=False)
        assert parts["aux"].item() == pytest.approx(F.cross_entropy(full, labels.long(), ignore_index=255).item())
        assert loss.item() == pytest.approx(parts["ce"].item() + 0.3 * parts["aux"].item())
        loss.backward()
        assert aux.grad.any()

    def test_auxiliary_head_can_be_switched_off(self, batch):
        logits, labels = batch
        loss, parts = SegmentationLoss(LossConfig(aux_weight=0), K)(Logits(logits, logits * 0), labels)
        assert "aux" not in parts and loss.item() == parts["ce"].item()

    def test_weights_from_the_dataset(self, batch):
        logits, labels = batch
        module = SegmentationLoss(LossConfig(class_weights="enet"), K, PixelCounts([100, 10, 1, 0]))
        assert module.weights.shape == (K,) and module.weights[3] == 0
        assert module(Logits(logits), labels)[0].isfinite()

    def test_weights_are_not_in_the_checkpoint(self):
        assert not SegmentationLoss(LossConfig(class_weights=[1.0, 2.0]), 2).state_dict()


class TestBadLabels:
    def test_a_cpu_names_them(self, batch):
        logits, labels = batch
        labels[0, 0, 0], labels[0, 0, 1] = 200, 4
        with pytest.raises(UserError, match=r"labels hold \[4, 200\], outside the 4 classes"):
            loss_of({}, logits, labels)

    def test_are_told_from_ignored_ones(self):
        labels = torch.tensor([[[0, 3, 4, 254, 255]]], dtype=torch.uint8)
        assert bad_labels(labels, 4).tolist() == [[[False, False, True, True, False]]]

    @pytest.mark.gpu
    @EVERY_TERM
    def test_a_gpu_turns_nan_and_waits_for_nothing_but_presence(self, batch, settings):
        logits, labels = (tensor.cuda() for tensor in batch)
        module = SegmentationLoss(LossConfig(**settings), K).cuda()
        module(Logits(logits), labels)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                good, _ = module(Logits(logits.requires_grad_()), labels)
                good.backward()
                labels[0, 0, 0] = 77
                spoilt, _ = module(Logits(logits), labels)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        calls = 2
        waits = [each for each in waits if "synchroniz" in str(each.message)]
        assert len(waits) == (calls if asks_which_are_present(settings) else 0)
        assert good.isfinite() and spoilt.isnan() and module.bad_pixels == 1


class TestConfig:
    def test_no_term_is_cross_entropy(self):
        assert LossConfig().terms() == {"ce": 1.0}
        assert LossConfig(lovasz=0.5).terms() == {"lovasz": 0.5}
        assert LossConfig(ce=1.0, lovasz=0.5).terms() == {"ce": 1.0, "lovasz": 0.5}
        assert LossConfig(**dataclasses.asdict(LossConfig(dice=1.0))) == LossConfig(dice=1.0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"ce": 0}, "loss has no term"),
            ({"ce": -1}, r"loss.ce = -1: expected a number in \[0, inf\)"),
            ({"dice": float("nan")}, "loss.dice = nan"),
            ({"ce": "1"}, "loss.ce = '1'"),
            ({"aux_weight": True}, "loss.aux_weight = true"),
            ({"label_smoothing": 1.0}, r"loss.label_smoothing = 1.0: expected a number in \[0, 1\)"),
            ({"ohem_fraction": 0}, "loss.ohem_fraction = 0"),
            ({"ohem_threshold": 1.1}, "loss.ohem_threshold = 1.1"),
            ({"focal_gamma": -1}, "loss.focal_gamma = -1"),
            ({"focal_alpha": [0.5, -1]}, r"loss.focal_alpha\[1\] = -1"),
            ({"class_weights": "median_freq"}, "did you mean 'median_frequency'"),
            ({"lovasz_classes": "presents"}, "did you mean 'present'"),
            ({"ce_mean": "al"}, "loss.ce_mean = 'al'.*did you mean 'all'"),
        ],
    )
    def test_mistakes_name_the_key(self, settings, message):
        with pytest.raises(UserError, match=message):
            LossConfig(**settings)

    def test_alpha_of_another_class_count(self):
        with pytest.raises(UserError, match=r"loss\.focal_alpha has 2 numbers, the dataset has 4"):
            SegmentationLoss(LossConfig(focal=1.0, focal_alpha=[0.5, 0.5]), K)
