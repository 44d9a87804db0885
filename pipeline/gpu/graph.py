"""The DALI graphs: files and pixels to batches. One that decodes alone, one that also makes crops.

They are the GPU device. The CPU device has ways of its own (`pipeline.cpu`), several times as fast as DALI's operators
on a CPU; but these graphs run there too, so that a machine without a GPU can hold the GPU's operators against OpenCV,
and `serialize()` the GPU graph itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from pipeline.augment import Augment, blur_radius
from pipeline.geometry import after_downsampling, to_dali
from pipeline.request import Request

Backend = Literal["cpu", "gpu"]
# What a source returns for each batch: for each input of the graph a list of B arrays, or one array [B, ...].
Source = Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class Executor:
    """How DALI runs a graph."""

    backend: Backend
    batch_size: int
    threads: int = 1
    prefetch: int = 2
    device_id: int | None = None
    hw_decoder_load: float = 0.65
    """Of the JPEGs, the share for the GPU's hardware decoder."""


@dataclass(frozen=True)
class Inputs:
    """What a source gives of each sample, before the graph's other parameters."""

    encoded: bool
    """Images are JPEG files, uint8 [bytes], which the graph decodes; else they are pixels, uint8 [H, W, C]."""
    labeled: bool = True
    """Labels, uint8 [H, W, 1], come behind the images. Always pixels: a PNG is decoded by the CPU in any case, and
    `pipeline.decode` takes a twentieth of DALI's time for it."""


@dataclass(frozen=True)
class Crops:
    """What a graph makes of each sample."""

    size: tuple[int, int]
    """Height and width, pixels."""
    fill: Sequence[int]
    """The image outside its borders, uint8 per channel; the label is 255 there."""
    blur: bool
    downsample_steps: int
    """How often an image may be halved before it is sampled, see `geometry.most_downsample_steps`."""
    colors: bool = False
    erase: bool = False


def decode_graph(source: Source, executor: Executor, inputs: Inputs) -> Pipeline:
    """Decoded images uint8 [H, W, C] (and labels uint8 [H, W, 1]) on the executor's device."""
    pipe = _pipeline(executor)
    with pipe:
        image, *labels = _external(source, _kinds(inputs))
        moved = [_on_device(label, executor) for label in labels]
        pipe.set_outputs(_image(image, executor, inputs), *moved)
    return pipe


def warp_graph(source: Source, executor: Executor, inputs: Inputs, crops: Crops) -> Pipeline:
    """Training crops: images uint8 [h, w, C], labels uint8 [h, w, 1]. `source` also gives `dali_parameters`."""
    pipe = _pipeline(executor)
    steps = crops.downsample_steps
    with pipe:
        kinds = [*_kinds(inputs), *_parameter_kinds(crops)]
        image, label, label_matrix, *rest = _external(source, kinds)
        given = iter(rest)
        image, label = _image(image, executor, inputs), _on_device(label, executor)
        matrix = next(given) if steps else label_matrix
        for _ in range(steps):
            image = _halve(image, size=next(given), extent=next(given))
        if crops.colors:
            around, back = (_on_device(next(given), executor) for _ in range(2))
            warped = _warp_and_fill(image, matrix, crops, around) + back
            hue, saturation, gain = (next(given) for _ in range(3))
            # `back` is beyond 8 bits: nothing is clipped before the end.
            image = fn.color_twist(warped, hue=hue, saturation=saturation, brightness=gain, dtype=types.UINT8)
        else:
            color = types.Constant(np.array(crops.fill, dtype=np.int16).reshape(1, 1, -1), device=executor.backend)
            image = fn.cast(_warp_and_fill(image, matrix, crops, color) + color, dtype=types.UINT8)
        # nearest: interpolating class ids invents classes
        label = fn.warp_affine(
            label, matrix=label_matrix, size=crops.size, fill_value=255.0, interp_type=types.INTERP_NN
        )
        if crops.blur:
            image = fn.gaussian_blur(image, sigma=next(given), window_size=next(given))
        if crops.erase:
            fill = [float(value) for value in crops.fill]
            image = fn.erase(image, anchor=next(given), shape=next(given), axis_names="HW", fill_value=fill)
        pipe.set_outputs(image, label)
    return pipe


def _warp_and_fill(image: Any, matrix: Any, crops: Crops, color: Any) -> Any:
    """The crop less `color`, int16, 0 outside the image: warp_affine fills with one number for all channels."""
    return fn.warp_affine(
        image - color, matrix=matrix, size=crops.size, fill_value=0.0, interp_type=types.INTERP_LINEAR
    )


def dali_parameters(
    request: Request, sizes_hw: NDArray[np.int64], augment: Augment, steps: int
) -> tuple[NDArray[Any], ...]:
    """A batch's geometry, colors and blur as `warp_graph` takes them, one array [B, ...] each.

    Matrices float32 [B, 2, 3] of the labels, which are never downsampled; if images may be, matrices of the images, and
    for each step the size after it and the extent that is halved, float32 [B, 2] each, (height, width) in pixels; when
    colors change, the padding and the padding raised by the shift, int16 [B, 1, 1, 3], hue, saturation and gain,
    float32 [B]; when the recipe blurs, sigmas float32 [B] and odd window widths int32 [B], pixels; when it erases, top
    left corners and sizes, float32 [B, 2], pixels.

    sizes_hw: int64 [B, 2], the decoded images' sizes. steps: of `Crops`.
    """
    assert request.matrices is not None and request.sigmas is not None and request.downsample is not None
    assert request.downsample.max() <= 2**steps
    parameters: list[NDArray[Any]] = [to_dali(request.matrices)]
    if steps:
        pairs = zip(request.matrices, request.downsample, strict=True)
        parameters.append(to_dali(np.stack([after_downsampling(matrix, int(factor)) for matrix, factor in pairs])))
        size = sizes_hw
        for number in range(1, steps + 1):
            halved = (request.downsample >= 2**number)[:, None]
            after = np.where(halved, -(-size // 2), size)
            extent = np.where(halved, 2 * after, size)
            parameters += [after.astype(np.float32), extent.astype(np.float32)]
            size = after
    if request.colors is not None:
        found = request.colors
        around = found.padding.astype(np.int16)
        back = around + found.shift.astype(np.int16)[:, None]
        parameters += [around[:, None, None], back[:, None, None]]
        parameters += [values.astype(np.float32) for values in (found.hue, found.saturation, found.gain)]
    if augment.blur:
        # DALI takes no sigma of 0. This one's kernel is the identity in 8 bits, as no blur is on the CPU device.
        kept = [sigma if blur_radius(sigma) else 0.01 for sigma in request.sigmas]
        windows = [2 * max(1, blur_radius(sigma)) + 1 for sigma in request.sigmas]
        parameters += [np.array(kept, dtype=np.float32), np.array(windows, dtype=np.int32)]
    if request.erased is not None:
        parameters += [request.erased[:, :2].astype(np.float32), request.erased[:, 2:].astype(np.float32)]
    return tuple(parameters)


def _halve(image: Any, size: Any, extent: Any) -> Any:
    """Means of 2x2 pixels where `extent` is twice `size`, the image itself where it equals it.

    Linear interpolation half way between two pixels is their mean; past the last pixel it is repeated.
    """
    return fn.resize(
        image,
        size=size,
        roi_start=[0.0, 0.0],
        roi_end=extent,
        interp_type=types.INTERP_LINEAR,
        antialias=False,
    )


def _pipeline(executor: Executor) -> Pipeline:
    # Dynamic executor: outputs stay valid for as long as they are held.
    return Pipeline(
        batch_size=executor.batch_size,
        num_threads=executor.threads,
        device_id=executor.device_id,
        prefetch_queue_depth=executor.prefetch,
        exec_dynamic=True,
        seed=0,  # nothing in the graph is random: the plan holds all of it
    )


class _Kind(NamedTuple):
    """Element type, dimensions and layout of one input."""

    dtype: Any
    ndim: int
    layout: str = ""


_PIXELS = _Kind(types.UINT8, 3, "HWC")
_MATRIX, _POINT = _Kind(types.FLOAT, 2), _Kind(types.FLOAT, 1)


def _kinds(inputs: Inputs) -> list[_Kind]:
    return [_Kind(types.UINT8, 1) if inputs.encoded else _PIXELS, *([_PIXELS] if inputs.labeled else [])]


def _parameter_kinds(crops: Crops) -> list[_Kind]:
    """What `dali_parameters` gives."""
    kinds = [_MATRIX]
    if crops.downsample_steps:
        kinds += [_MATRIX] + [_POINT] * (2 * crops.downsample_steps)
    if crops.colors:
        kinds += [_Kind(types.INT16, 3, "HWC")] * 2 + [_Kind(types.FLOAT, 0)] * 3
    if crops.blur:
        kinds += [_Kind(types.FLOAT, 0), _Kind(types.INT32, 0)]
    return kinds + [_POINT] * (2 * crops.erase)


def _external(source: Source, kinds: list[_Kind]) -> list[Any]:
    dtypes, ndims, layouts = zip(*kinds, strict=True)
    # no_copy: `Feed` keeps the arrays until they are consumed.
    return list(
        fn.external_source(
            source=source,
            num_outputs=len(kinds),
            batch=True,
            no_copy=True,
            dtype=list(dtypes),
            ndim=list(ndims),
            layout=list(layouts),
        )
    )


def _image(image: Any, executor: Executor, inputs: Inputs) -> Any:
    if not inputs.encoded:
        return _on_device(image, executor)
    # Orientation was baked in at ingest: turning the image here would leave its label behind.
    return fn.decoders.image(
        image,
        device="mixed" if executor.backend == "gpu" else "cpu",
        output_type=types.RGB,
        adjust_orientation=False,
        jpeg_fancy_upsampling=True,  # chroma as libjpeg interpolates it: the CPU device's pixels
        hw_decoder_load=executor.hw_decoder_load,
    )


def _on_device(pixels: Any, executor: Executor) -> Any:
    return pixels.gpu() if executor.backend == "gpu" else pixels
