"""The DALI graphs: encoded bytes to pixels. One for decoding alone, one that also warps and blurs.

They are the GPU device. The CPU device has ways of its own (`pipeline.cpu`), several times as fast as DALI's operators
on a CPU; but these graphs run there too, so that a machine without a GPU can hold the GPU's operators against OpenCV,
and `serialize()` the GPU graph itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from pipeline.augment import Augment, blur_radius
from pipeline.geometry import after_shrinking, to_dali
from pipeline.request import Request

Backend = Literal["cpu", "gpu"]
# What a source returns for each batch: a list of B arrays for each input of the graph.
Source = Callable[[], Sequence[Any]]


def decode_graph(
    source: Source,
    backend: Backend,
    batch: int,
    threads: int,
    prefetch: int,
    device_id: int | None,
    labeled: bool = True,
    channels: int = 3,
) -> Pipeline:
    """Encoded bytes -> decoded images uint8 [H, W, C] (and labels uint8 [H, W, 1]).

    `source` returns a list of images' bytes (`ShardSet.image`) and, if labelled, one of labels' bytes.
    """
    pipe = _pipeline(batch, threads, prefetch, device_id)
    with pipe:
        kinds = [_image_kind(channels), _BYTES] if labeled else [_image_kind(channels)]
        inputs = _inputs(source, kinds)
        outputs = [_decode_image(inputs[0], backend, channels)]
        if labeled:
            outputs.append(_decode(inputs[1], backend, types.GRAY))
        pipe.set_outputs(*outputs)
    return pipe


def warp_graph(
    source: Source,
    backend: Backend,
    batch: int,
    threads: int,
    prefetch: int,
    device_id: int | None,
    crop: tuple[int, int],
    fill: Sequence[int],
    blur: bool,
    halvings: int,
) -> Pipeline:
    """Encoded bytes, geometry and blur -> crops: images uint8 [h, w, C], labels uint8 [h, w, 1].

    `source` returns images' bytes, labels' bytes and `dali_parameters`. Outside the source the image is `fill` (uint8
    per channel), the label 255. halvings: how many times an image may be halved before it is sampled.
    """
    pipe = _pipeline(batch, threads, prefetch, device_id)
    with pipe:
        kinds = [_image_kind(len(fill)), _BYTES, _Kind(types.FLOAT, 2)]
        if halvings:
            kinds += [_Kind(types.FLOAT, 2)] + [_Kind(types.FLOAT, 1)] * (2 * halvings)
        if blur:
            kinds += [_Kind(types.FLOAT, 0), _Kind(types.INT32, 0)]
        encoded, encoded_label, matrix, *rest = _inputs(source, kinds)
        image = _decode_image(encoded, backend, len(fill))
        label = _decode(encoded_label, backend, types.GRAY)
        label_matrix = matrix
        if halvings:
            matrix, *rest = rest
            for _ in range(halvings):
                size, extent, *rest = rest
                image = _halve(image, size, extent)
        # warp_affine fills with one number for all channels. Shifted by the fill colour, that number is 0.
        colour = types.Constant(np.array(fill, dtype=np.int16).reshape(1, 1, -1), device=backend)
        shifted = fn.warp_affine(
            image - colour, matrix=matrix, size=crop, fill_value=0.0, interp_type=types.INTERP_LINEAR
        )
        image = fn.cast(shifted + colour, dtype=types.UINT8)
        # nearest: interpolating class ids invents classes
        label = fn.warp_affine(label, matrix=label_matrix, size=crop, fill_value=255.0, interp_type=types.INTERP_NN)
        if blur:
            image = fn.gaussian_blur(image, sigma=rest[0], window_size=rest[1])
        pipe.set_outputs(image, label)
    return pipe


def dali_parameters(
    request: Request, sizes_hw: NDArray[np.int64], augment: Augment, halvings: int
) -> tuple[list[Any], ...]:
    """A batch's geometry and blur as `warp_graph` takes them: lists of B arrays.

    Matrices float32 [2, 3] of the labels, which are never shrunk; if images may be halved, matrices of the images, and
    for each halving the size after it and the extent that is halved, float32 [2] each, (height, width) in pixels; when
    the recipe blurs, sigmas float32 [] and odd window widths int32 [], pixels.

    sizes_hw: int64 [B, 2], the decoded images' sizes.
    """
    assert request.matrices is not None and request.sigmas is not None and request.shrinks is not None
    assert request.shrinks.max() <= 2**halvings
    parameters: list[list[Any]] = [list(to_dali(request.matrices))]
    if halvings:
        pairs = zip(request.matrices, request.shrinks, strict=True)
        shrunk = np.stack([after_shrinking(matrix, int(shrink)) for matrix, shrink in pairs])
        parameters.append(list(to_dali(shrunk)))
        size = sizes_hw
        for number in range(1, halvings + 1):
            halved = (request.shrinks >= 2**number)[:, None]
            after = np.where(halved, -(-size // 2), size)
            extent = np.where(halved, 2 * after, size)
            parameters += [list(after.astype(np.float32)), list(extent.astype(np.float32))]
            size = after
    if augment.blur:
        # DALI takes no sigma of 0. This one's kernel is the identity in 8 bits, as no blur is on the CPU device.
        kept = [sigma if blur_radius(sigma) else 0.01 for sigma in request.sigmas]
        windows = [2 * max(1, blur_radius(sigma)) + 1 for sigma in request.sigmas]
        parameters += [list(np.array(kept, dtype=np.float32)), list(np.array(windows, dtype=np.int32))]
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


def _pipeline(batch: int, threads: int, prefetch: int, device_id: int | None) -> Pipeline:
    # Dynamic executor: outputs stay valid for as long as they are held, so torch may view them without a copy.
    return Pipeline(
        batch_size=batch,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,
        seed=0,  # nothing in the graph is random: the plan holds all of it
    )


class _Kind(NamedTuple):
    """Element type, dimensions and layout of one input."""

    dtype: Any
    ndim: int
    layout: str = ""


_BYTES = _Kind(types.UINT8, 1)


def _image_kind(channels: int) -> _Kind:
    """Three channels come as JPEG or PNG files, any other number as plain arrays."""
    return _BYTES if channels == 3 else _Kind(types.UINT8, 3, "HWC")


def _inputs(source: Source, kinds: list[_Kind]) -> list[Any]:
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


def _decode_image(encoded: Any, backend: Backend, channels: int) -> Any:
    if channels == 3:
        return _decode(encoded, backend, types.RGB)
    return encoded.gpu() if backend == "gpu" else encoded


def _decode(encoded: Any, backend: Backend, output_type: Any) -> Any:
    # Orientation was baked in at ingest: turning the image here would leave its label behind.
    return fn.decoders.image(
        encoded,
        device="mixed" if backend == "gpu" else "cpu",
        output_type=output_type,
        adjust_orientation=False,
        jpeg_fancy_upsampling=True,  # chroma as libjpeg interpolates it: the CPU device's pixels
    )
