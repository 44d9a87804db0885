"""The composed warp against a step-by-step reference, and OpenCV's warp against DALI's."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from pipeline import color, decode, geometry, plan
from pipeline.augment import Augment, blur_radius, blur_sigmas
from pipeline.cpu.finish import finish
from pipeline.cpu.warp import warp_image, warp_label
from pipeline.gpu.graph import Crops, Executor, Inputs, dali_parameters, decode_graph, warp_graph
from pipeline.request import Request
from tests.shard_folder import smooth_scene

FILL = [10, 120, 200]


def draws_of(count: int, seed: int = 5) -> plan.Draws:
    return plan.draw(seed, 0, np.arange(count))


def request_of(sizes: list[tuple[int, ...]], augment: Augment, draws: plan.Draws) -> Request:
    sizes_hw = np.array(sizes)
    return Request(
        np.arange(len(sizes)),
        geometry.matrices(draws, sizes_hw, augment),
        blur_sigmas(draws, augment),
        geometry.downsample_factors(draws, sizes_hw, augment),
        color.colors(draws, augment, FILL),
        color.rectangles(draws, augment),
    )


def composed(images, labels, augment: Augment, draws: plan.Draws, fill=FILL):
    """What the CPU device makes of decoded images."""
    request = request_of([image.shape[:2] for image in images], augment, draws)
    out_images = np.empty((len(images), *augment.crop, images[0].shape[2]), dtype=np.uint8)
    out_labels = np.empty((len(images), *augment.crop), dtype=np.uint8)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        factor = int(request.downsample[i])
        matrix = request.matrices[i]
        reduced = decode.image(image, factor)
        around = fill if request.colors is None else request.colors.padding[i].tolist()
        warp_image(reduced, geometry.after_downsampling(matrix, factor), out_images[i], around)
        finish(out_images[i], request, i, fill)
        warp_label(label, matrix, out_labels[i])
    return out_images, out_labels


def step_by_step(image, label, augment: Augment, draws: plan.Draws, i: int):
    """Scale, pad, rotate, crop and flip one after another, the image in float32.

    Returns image, label, and bool masks: surely inside the source, surely outside, near a class border.
    """
    one = plan.Draws(*(getattr(draws, field.name)[i : i + 1] for field in fields(plan.Draws)))
    (height, width) = geometry.scaled_sizes(one, np.array([label.shape]), augment)[0].tolist()
    (top, left) = geometry.crop_offsets(one, np.array([[height, width]]), augment)[0].tolist()
    scaled = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    # nearest as the warp does it: the source pixel whose center is nearest
    rows = np.rint((np.arange(height) + 0.5) * label.shape[0] / height - 0.5).astype(int).clip(0, label.shape[0] - 1)
    columns = np.rint((np.arange(width) + 0.5) * label.shape[1] / width - 0.5).astype(int).clip(0, label.shape[1] - 1)
    scaled_label = label[rows][:, columns]
    pad = max(height, width, *augment.crop)  # room for the crop wherever it lies, and for the corners that turn
    scaled = cv2.copyMakeBorder(scaled, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=FILL)
    inside = cv2.copyMakeBorder(np.ones((height, width), np.float32), pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    scaled_label = cv2.copyMakeBorder(scaled_label, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=255)
    degrees = (2 * one.angle[0] - 1) * augment.rotate
    center = (pad + (width - 1) / 2, pad + (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(center, degrees, 1.0)
    size = (scaled.shape[1], scaled.shape[0])
    scaled = cv2.warpAffine(scaled, turn, size, flags=cv2.INTER_LINEAR, borderValue=FILL)
    inside = cv2.warpAffine(inside, turn, size, flags=cv2.INTER_LINEAR, borderValue=0)
    scaled_label = cv2.warpAffine(scaled_label, turn, size, flags=cv2.INTER_NEAREST, borderValue=255)
    window = (slice(pad + top, pad + top + augment.crop[0]), slice(pad + left, pad + left + augment.crop[1]))
    # Surely image and surely fill; not the band at the image's edge, where one way fades and the other clamps.
    sure = cv2.erode(inside, np.ones((9, 9), np.uint8)) > 0.999
    beyond = cv2.dilate(inside, np.ones((9, 9), np.uint8)) == 0
    edge = cv2.morphologyEx(scaled_label, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    parts = [scaled[window], scaled_label[window], sure[window], beyond[window], edge[window]]
    return [part[:, ::-1] for part in parts] if one.flip[0] < augment.flip else parts


@pytest.mark.parametrize("size", [(90, 120), (121, 83), (31, 200)])
@pytest.mark.parametrize("crop", [(64, 64), (75, 130)])
def test_composed_warp_equals_the_steps(size: tuple[int, int], crop: tuple[int, int]) -> None:
    augment = Augment(crop=crop, base_size=120, blur=0)
    scenes = [smooth_scene(*size, seed=seed) for seed in range(8)]
    draws = draws_of(8)
    images, labels = composed([s[0] for s in scenes], [s[1] for s in scenes], augment, draws)
    for i, (image, label) in enumerate(scenes):
        expected, expected_label, sure, beyond, edge = step_by_step(image, label, augment, draws, i)
        # A shift of half a pixel would show: these scenes change by up to 13 gray levels a pixel at scale 0.5.
        difference = np.abs(images[i].astype(float) - expected)[sure]
        assert difference.max() < 3.5 and difference.mean() < 0.6
        assert (images[i][beyond] == FILL).all() and (labels[i][beyond] == 255).all()
        # Labels agree but on the borders between classes, which sampling twice moves by up to a pixel.
        np.testing.assert_array_equal(labels[i][~edge], expected_label[~edge])
        assert (~edge).mean() > 0.3


def test_half_a_pixel_of_shift_would_be_seen() -> None:
    """The tolerance above has teeth: the same comparison fails when the matrix is half a pixel off."""
    augment = Augment(crop=(64, 64), base_size=120, blur=0, scale=(0.5, 0.5))
    image, label = smooth_scene(90, 120, seed=0)
    draws = draws_of(1)
    expected, _, sure, _, _ = step_by_step(image, label, augment, draws, 0)
    matrix = geometry.matrices(draws, np.array([[90, 120]]), augment)[0]
    matrix[0, 2] += 1.0  # source pixels: half a pixel of the crop
    moved = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert np.abs(moved.astype(float) - expected)[sure].max() > 3.5


def test_without_scale_and_rotation_the_crop_is_a_copy() -> None:
    image, label = smooth_scene(60, 80, seed=1)
    augment = Augment(crop=(40, 50), base_size=0, scale=(1, 1), rotate=0, flip=0, blur=0)
    for seed in range(5):
        draws = draws_of(1, seed)
        (top, left) = geometry.crop_offsets(draws, np.array([[60, 80]]), augment)[0]
        images, labels = composed([image], [label], augment, draws)
        np.testing.assert_array_equal(images[0], image[top : top + 40, left : left + 50])
        np.testing.assert_array_equal(labels[0], label[top : top + 40, left : left + 50])


def test_crop_places_cover_the_room_evenly() -> None:
    augment = Augment(crop=(40, 50))
    draws = draws_of(4000)
    inside = geometry.crop_offsets(draws, np.full((4000, 2), [44, 50]), augment)
    assert np.bincount(inside[:, 0]).shape == (5,) and (np.bincount(inside[:, 0]) > 650).all()
    assert (inside[:, 1] == 0).all()
    around = geometry.crop_offsets(draws, np.full((4000, 2), [38, 50]), augment)
    assert np.bincount(-around[:, 0]).shape == (3,) and (np.bincount(-around[:, 0]) > 1100).all()


def test_outside_the_image_is_the_fill_color_and_ignore() -> None:
    image, label = np.full((20, 20, 3), 77, np.uint8), np.full((20, 20), 3, np.uint8)
    augment = Augment(crop=(64, 64), base_size=20, scale=(1, 1), blur=0)
    images, labels = composed([image] * 6, [label] * 6, augment, draws_of(6))
    assert set(np.unique(labels)) == {3, 255}
    for i in range(6):
        assert 350 < (labels[i] == 3).sum() < 450
        away = cv2.dilate((labels[i] == 3).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        assert (images[i][away] == FILL).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1)])
def test_tiny_images(shape: tuple[int, int]) -> None:
    image, label = np.full((*shape, 3), 50, np.uint8), np.full(shape, 2, np.uint8)
    augment = Augment(crop=(16, 16), base_size=0, scale=(1, 1), rotate=0, blur=0)
    _, labels = composed([image], [label], augment, draws_of(1))
    assert (labels == 2).sum() == shape[0] * shape[1]


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_other_channel_counts_are_warped_alike(channels: int) -> None:
    image, label = smooth_scene(60, 80, seed=2)
    augment = Augment(crop=(48, 48), base_size=80, blur=1)
    many = np.ascontiguousarray(np.stack([image[:, :, 0]] * channels, axis=2))
    out, _ = composed([many], [label], augment, draws_of(1), [9] * channels)
    assert all((out[0, :, :, 0] == out[0, :, :, c]).all() for c in range(channels))
    assert out[0, :, :, 0].std() > 5


def test_draws_follow_their_distributions() -> None:
    draws = draws_of(20000)
    augment = Augment(crop=(64, 64), base_size=100)
    for name in ("scale", "angle", "top", "left", "flip", "blur"):
        values = np.sort(getattr(draws, name))
        # Kolmogorov-Smirnov against the uniform: 1.63 / sqrt(n) is its 1% point.
        assert np.abs(values - np.linspace(0, 1, len(values))).max() < 1.95 / np.sqrt(len(values)), name
    sizes = geometry.scaled_sizes(draws, np.full((20000, 2), [50, 100]), augment)
    assert sizes[:, 1].min() == 50 and sizes[:, 1].max() == 200
    assert np.abs(sizes[:, 0] * 2 - sizes[:, 1]).max() <= 1
    matrices = geometry.matrices(draws, np.full((20000, 2), [50, 100]), augment)
    assert abs((np.linalg.det(matrices[:, :, :2]) < 0).mean() - 0.5) < 0.02
    assert np.corrcoef(np.stack([draws.scale, draws.angle, draws.top, draws.left, draws.flip, draws.blur]))[
        ~np.eye(6, dtype=bool)
    ] == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("sigma", [0.2, 0.4, 0.7, 1.0])
def test_blur_is_gaussian(sigma: float) -> None:
    image = np.zeros((33, 33, 1), np.uint8)
    image[16, 16] = 255
    radius = blur_radius(sigma)
    out = cv2.GaussianBlur(image, (2 * radius + 1, 2 * radius + 1), sigma) if radius else image[:, :, 0]
    y, x = np.mgrid[-16:17, -16:17]
    kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    assert np.abs(out - 255 * kernel / kernel.sum()).max() < 3


# --- DALI's operators, on the CPU, in the very graph that the GPU runs ---


def _dali_inputs(scenes, augment: Augment, draws: plan.Draws):
    sizes = [label.shape for _, label in scenes]
    steps = geometry.most_downsample_steps(np.array(sizes), augment)
    images, labels = [image for image, _ in scenes], [label[:, :, None] for _, label in scenes]
    return images, labels, *dali_parameters(request_of(sizes, augment, draws), np.array(sizes), augment, steps)


@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize(("base_size", "antialias"), [(120, True), (50, True), (20, True), (50, False)])
def test_dali_warp_agrees_with_opencv(blur: float, base_size: int, antialias: bool) -> None:
    augment = Augment(crop=(70, 90), base_size=base_size, blur=blur, antialias=antialias)
    scenes = [smooth_scene(*size, seed=i) for i, size in enumerate([(90, 120), (121, 83), (31, 200), (64, 64)])]
    draws = draws_of(4)
    inputs = _dali_inputs(scenes, augment, draws)
    steps = geometry.most_downsample_steps(np.array([label.shape for _, label in scenes]), augment)
    assert steps == ({120: 1, 50: 3, 20: 3}[base_size] if antialias else 0)
    crops = Crops(augment.crop, FILL, blur > 0, steps)
    pipe = warp_graph(lambda: inputs, Executor("cpu", 4, 2, 1), Inputs(encoded=False), crops)
    pipe.build()
    dali_images, dali_labels = (np.asarray(out.as_tensor()) for out in pipe.run())
    images, labels = composed([s[0] for s in scenes], [s[1] for s in scenes], augment, draws)
    difference = np.abs(dali_images.astype(int) - images.astype(int))
    # OpenCV rounds places to 1/32 of a pixel: smooth content differs by a few levels, the image's own edge by more.
    assert np.quantile(difference, 0.98) <= 2 and difference.mean() < 0.6
    assert (dali_labels[..., 0] != labels).mean() < 0.01


def test_the_graph_downsamples_as_often_as_any_sample_asks_for() -> None:
    """Where sizes round at a half, too: one step too few would sample from the wrong places."""
    highest = draws_of(2000)
    for base_size, low, size in itertools.product((0, 39, 77, 100, 101), (0.125, 0.25, 0.5, 0.51, 1.0), (77, 154, 160)):
        augment = Augment(base_size=base_size, scale=(low, low))
        sizes = np.full((2000, 2), size)
        needed = geometry.downsample_factors(highest, sizes, augment).max()
        assert needed == 2 ** geometry.most_downsample_steps(sizes[:1], augment), (base_size, low, size)


@pytest.mark.parametrize("encoded", [True, False])
def test_gpu_graphs_serialize(encoded: bool) -> None:
    """Wrong arguments, and GPU data given to CPU operators, fail here; only a GPU can build them."""
    executor, inputs = Executor("gpu", 8, 2), Inputs(encoded)
    crops = Crops(Augment().crop, FILL, blur=True, downsample_steps=2)
    text = warp_graph(lambda: (), executor, inputs, crops).serialize()
    assert b"WarpAffine" in text and b"GaussianBlur" in text
    assert (b"decoders__Image" in text or b"ImageDecoder" in text) == encoded
    loads = {decode_graph(lambda: (), replace(executor, hw_decoder_load=x), inputs).serialize() for x in (0.0, 0.65)}
    assert len(loads) == (2 if encoded else 1)


@pytest.mark.parametrize(("colors", "erase"), [(True, False), (False, True), (True, True)])
def test_gpu_graphs_with_colors_and_erasing_serialize(colors: bool, erase: bool) -> None:
    crops = Crops(Augment().crop, FILL, blur=True, downsample_steps=1, colors=colors, erase=erase)
    text = warp_graph(lambda: (), Executor("gpu", 8, 2), Inputs(True), crops).serialize()
    assert (b"ColorTwist" in text) == colors and (b"Erase" in text) == erase
