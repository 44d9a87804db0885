"""Dice and Lovász-softmax against their definitions over sets of pixels, in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from train.losses import LossConfig, SegmentationLoss
from train.losses.overlap import dice, jaccard_steps, lovasz_softmax

K, IGNORE = 4, 255
MODES = [(classes, per_image) for classes in ("present", "all") for per_image in (False, True)]


@pytest.fixture
def batch():
    """logits [3,K,5,6] float64; targets [3,5,6] int64: class 3 absent, class 2 in one image only, one image void."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(3, K, 5, 6, generator=draw, dtype=torch.float64) * 2
    targets = torch.randint(0, 2, (3, 5, 6), generator=draw)
    targets[0][torch.rand(5, 6, generator=draw) < 0.3] = 2
    targets[torch.rand(targets.shape, generator=draw) < 0.2] = IGNORE
    targets[2] = IGNORE
    return logits, targets


def valid_pixels(probs, targets):
    """probs [K,...], targets [...] -> (probabilities as a list, true class) of each valid pixel."""
    each = zip(probs.flatten(1).T.tolist(), targets.flatten().tolist(), strict=True)
    return [(p, y) for p, y in each if y != IGNORE]


def jaccard_loss(wrong: set, truth: set) -> float:
    """Berman et al. 2018, equation 6: of the mispredicted pixels of a class, |M| / |{y = c} or M|."""
    return len(wrong) / len(truth | wrong) if wrong else 0.0


def lovasz_extension(errors: list[float], truth: set) -> float:
    """Equation 8: the set function's growth as pixels are added by falling error, times these errors."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    growth = [jaccard_loss(set(order[: i + 1]), truth) - jaccard_loss(set(order[:i]), truth) for i in range(len(order))]
    return sum(errors[pixel] * step for pixel, step in zip(order, growth, strict=True))


def choquet_integral(errors: list[float], truth: set) -> float:
    """The same extension without a sort: the integral over t of the loss of {pixels whose error is t or more}."""
    levels = [0.0, *sorted(set(errors))]
    sets = [{i for i, error in enumerate(errors) if error >= level} for level in levels]
    return sum(
        (high - low) * jaccard_loss(s, truth) for low, high, s in zip(levels, levels[1:], sets[1:], strict=False)
    )


def naive_lovasz(logits, targets, classes, per_image, extension):
    probs = logits.softmax(dim=1)
    images = [valid_pixels(p, y) for p, y in zip(probs, targets, strict=True)]
    groups = [image for image in images if image] if per_image else [[pixel for image in images for pixel in image]]
    losses = []
    for pixels in groups:
        there = {y for _, y in pixels}
        each = []
        for c in sorted(there) if classes == "present" else range(logits.shape[1]):
            errors = [1 - p[c] if y == c else p[c] for p, y in pixels]
            each.append(extension(errors, {i for i, (_, y) in enumerate(pixels) if y == c}))
        losses.append(sum(each) / len(each))
    return sum(losses) / len(losses)


class TestDice:
    def test_equals_the_definition(self, batch):
        logits, targets = batch
        pixels = [pixel for p, y in zip(logits.softmax(1), targets, strict=True) for pixel in valid_pixels(p, y)]
        scores = []
        for c in {y for _, y in pixels}:
            overlap = sum(p[c] for p, y in pixels if y == c)
            total = sum(p[c] for p, _ in pixels) + sum(y == c for _, y in pixels)
            scores.append(1 - 2 * overlap / total)
        assert len(scores) == 3
        assert dice(logits.log_softmax(1), targets).item() == pytest.approx(sum(scores) / 3, rel=1e-12)

    def test_certain_and_right_is_zero_certain_and_wrong_is_one(self, batch):
        _, targets = batch
        right = torch.nn.functional.one_hot(targets.masked_fill(targets == IGNORE, 0), K).permute(0, 3, 1, 2)
        wrong = right.roll(1, dims=1)
        assert dice((200.0 * right).log_softmax(1), targets).item() == pytest.approx(0, abs=1e-6)
        assert dice((200.0 * wrong).log_softmax(1), targets).item() == pytest.approx(1, abs=1e-6)

    def test_long_float32_sums_keep_their_digits(self):
        draw = torch.Generator().manual_seed(0)
        logits = torch.randn(1, 2, 1024, 2048, generator=draw, dtype=torch.float64)
        targets = torch.randint(0, 2, (1, 1024, 2048), generator=draw)
        exact = dice(logits.log_softmax(1), targets).item()
        assert dice(logits.float().log_softmax(1), targets).item() == pytest.approx(exact, rel=1e-6)


class TestLovasz:
    @pytest.mark.parametrize("extension", [lovasz_extension, choquet_integral])
    @pytest.mark.parametrize(("classes", "per_image"), MODES)
    def test_equals_the_definition(self, batch, classes, per_image, extension):
        logits, targets = batch
        expected = naive_lovasz(logits, targets, classes, per_image, extension)
        found = lovasz_softmax(logits.log_softmax(1), targets, classes=classes, per_image=per_image)
        assert found.item() == pytest.approx(expected, rel=1e-12)

    def test_the_four_modes_differ(self, batch):
        logits, targets = batch
        found = {lovasz_softmax(logits.log_softmax(1), targets, classes=c, per_image=i).item() for c, i in MODES}
        assert len(found) == 4

    @pytest.mark.parametrize(("classes", "per_image"), MODES)
    def test_gradient(self, batch, classes, per_image):
        logits, targets = batch
        logits, targets = logits[:, :, :3, :3].clone().requires_grad_(), targets[:, :3, :3].contiguous()
        assert torch.autograd.gradcheck(
            lambda x: lovasz_softmax(x.log_softmax(1), targets, classes=classes, per_image=per_image), logits
        )

    def test_is_one_minus_miou_of_a_certain_net(self, batch):
        logits, targets = batch
        guess = logits.argmax(dim=1)
        valid = targets != IGNORE
        ious = []
        for c in range(3):  # the present classes
            hit = ((guess == c) & (targets == c)).sum()
            either = (((guess == c) | (targets == c)) & valid).sum()
            ious.append((hit / either).item())
        certain = 500 * torch.nn.functional.one_hot(guess, K).permute(0, 3, 1, 2).double()
        assert lovasz_softmax(certain.log_softmax(1), targets).item() == pytest.approx(1 - sum(ious) / 3, rel=1e-6)

    def test_backward_twice_and_scaled(self, batch):
        logits, targets = batch
        logits = logits.requires_grad_()
        loss = lovasz_softmax(logits.log_softmax(1), targets)
        (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
        (tripled,) = torch.autograd.grad(3 * loss, logits)
        torch.testing.assert_close(tripled, 3 * once, rtol=1e-12, atol=0)

    def test_float32_keeps_its_digits_on_a_large_image(self):
        draw = torch.Generator().manual_seed(0)
        logits = torch.randn(1, 3, 512, 512, generator=draw, dtype=torch.float64)
        targets = torch.randint(0, 3, (1, 512, 512), generator=draw)
        exact, rounded = logits.clone().requires_grad_(), logits.float().requires_grad_()
        a = lovasz_softmax(exact.log_softmax(1), targets)
        b = lovasz_softmax(rounded.log_softmax(1), targets)
        a.backward()
        b.backward()
        assert b.item() == pytest.approx(a.item(), rel=1e-5)
        assert (rounded.grad - exact.grad).norm() < 1e-4 * exact.grad.norm()


class TestJaccardSteps:
    def test_are_the_growth_of_the_set_function(self):
        there = [False, True, True, False, True, False, False]
        truth = {i for i, each in enumerate(there) if each}
        losses = [jaccard_loss(set(range(i)), truth) for i in range(len(there) + 1)]
        expected = [after - before for before, after in itertools.pairwise(losses)]
        assert jaccard_steps(torch.tensor([there]), torch.float64)[0].tolist() == pytest.approx(expected, rel=1e-12)

    def test_without_foreground_the_first_pixel_is_all(self):
        assert jaccard_steps(torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[1, 0, 0], [1, 0, 0]]

    def test_all_foreground_shares_evenly(self):
        assert jaccard_steps(torch.ones(1, 4, dtype=torch.bool)).tolist() == [[0.25] * 4]

    def test_sum_is_the_loss_of_getting_all_wrong(self):
        there = torch.rand(5, 100_000, generator=torch.Generator().manual_seed(0)) < 0.3
        assert jaccard_steps(there).sum(dim=1).tolist() == pytest.approx([1.0] * 5, rel=1e-5)


@pytest.mark.parametrize("settings", [{"dice": 1.0}, *({"lovasz_classes": c, "lovasz_per_image": i} for c, i in MODES)])
class TestBoth:
    def loss(self, settings, logits, labels):
        config = LossConfig(**({"lovasz": 1.0} | settings if "dice" not in settings else settings))
        out = type("Out", (), {"out": logits, "aux": None})
        return SegmentationLoss(config, K)(out, labels)[0]

    def test_uint8_labels_from_the_loader(self, batch, settings):
        logits, targets = batch
        labels = targets.to(torch.uint8)
        before = labels.clone()
        loss = self.loss(settings, logits, labels)
        direct = (
            dice(logits.log_softmax(1), targets)
            if "dice" in settings
            else lovasz_softmax(
                logits.log_softmax(1),
                targets,
                classes=settings["lovasz_classes"],
                per_image=settings["lovasz_per_image"],
            )
        )
        assert loss.item() == direct.item()
        assert torch.equal(labels, before)

    def test_extreme_logits_stay_finite(self, batch, settings):
        _, targets = batch
        logits = torch.zeros(3, K, 5, 6)
        logits[:, 1] = 1e4
        logits.requires_grad_()
        loss = self.loss(settings, logits, targets.to(torch.uint8))
        loss.backward()
        assert math.isfinite(loss.item()) and logits.grad.isfinite().all()
