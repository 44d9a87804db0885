"""DALI alone, as its documentation would have it: `readers.webdataset` and one operator after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nvidia.dali import fn, types

from bench.data.setting import Setting
from bench.loaders import executor
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment

# DALI takes no sigma of 0; this one's kernel is the identity in 8 bits.
_LEAST_SIGMA = 0.01


def dali(setting: Setting) -> Iterator[int]:
    """Decode, resize, rotate, crop with padding, flip, blur: the same distributions, drawn by DALI; uint8 NHWC out."""
    shards = ShardSet(setting.folder, setting.split)
    names = [shard.name for shard in shards.manifest.split(setting.split).shards]
    fill = [255 * value for value in shards.manifest.mean]
    pipe = executor.pipeline(setting)
    with pipe:
        encoded: Any = fn.readers.webdataset(
            paths=[str(shards.folder / f"{name}.tar") for name in names],
            index_paths=[str(shards.folder / f"{name}.idx") for name in names],
            ext=["jpg;png", "seg.png"],
            random_shuffle=True,
            initial_fill=min(256, len(shards)),
            name="reader",
        )
        image, label = encoded
        pipe.set_outputs(*_augmented(image, label, setting.augment, setting.device, fill))
    pipe.build()
    while True:
        pipe.run()
        yield setting.batch


def _augmented(encoded: Any, encoded_label: Any, augment: Augment, device: str, fill: list[float]) -> tuple[Any, Any]:
    decoder = "mixed" if device == "gpu" else "cpu"
    image = fn.decoders.image(
        encoded, device=decoder, output_type=types.RGB, adjust_orientation=False, jpeg_fancy_upsampling=True
    )
    label = fn.decoders.image(encoded_label, device=decoder, output_type=types.GRAY, adjust_orientation=False)

    factor = fn.random.uniform(range=augment.scale)
    if augment.base_size:
        longer = factor * augment.base_size
    else:
        shape = fn.peek_image_shape(encoded, adjust_orientation=False)
        longer = factor * fn.reductions.max(shape[:2])
    longer = fn.cast(longer, dtype=types.FLOAT)
    # antialias off: as the other rows
    image = fn.resize(image, resize_longer=longer, interp_type=types.INTERP_LINEAR, antialias=False)
    label = fn.resize(label, resize_longer=longer, interp_type=types.INTERP_NN)
    if augment.rotate:
        angle = fn.random.uniform(range=(-augment.rotate, augment.rotate))
        # One number for all channels is all that DALI's rotate fills with.
        gray = sum(fill) / len(fill)
        image = fn.rotate(image, angle=angle, keep_size=True, fill_value=gray, interp_type=types.INTERP_LINEAR)
        label = fn.rotate(label, angle=angle, keep_size=True, fill_value=255, interp_type=types.INTERP_NN)
    place = {
        "crop": augment.crop,
        "crop_pos_x": fn.random.uniform(range=(0.0, 1.0)),
        "crop_pos_y": fn.random.uniform(range=(0.0, 1.0)),
        "out_of_bounds_policy": "pad",
    }
    image = fn.crop(image, fill_values=fill, **place)
    label = fn.crop(label, fill_values=255, **place)
    if augment.flip:
        coin = fn.random.coin_flip(probability=augment.flip)
        image, label = fn.flip(image, horizontal=coin), fn.flip(label, horizontal=coin)
    if augment.blur:
        sigma = fn.random.uniform(range=(_LEAST_SIGMA, max(augment.blur, _LEAST_SIGMA * 2)))
        image = fn.gaussian_blur(image, sigma=sigma)
    return image, label
