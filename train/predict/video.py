"""Videos: each frame labeled, and written with the classes laid over it, at the source's frame rate (PyAV)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ingest.errors import UserError
from ingest.shards import atomic, pictures
from ingest.shards.manifest import IGNORE
from train.predict import scene
from train.predict.inputs import Item
from train.predict.outputs import Output
from train.predict.raw import Reader
from train.predict.scene import Labeler

_COMPLETE = 0.95  # share of the frames that a file promises: edit lists and broken frames may cost a few


def label(item: Item, labeler: Labeler, reader: Reader, output: Output) -> None:
    """Writes OUT/videos/NAME.mp4. UserError where PyAV is missing, or the video does not decode or ends too early."""
    av = _av()
    if reader.channels != 3 or (reader.recipe is not None and not reader.recipe.plain):
        raise UserError(f"{item.path}: a video's frames are 8-bit RGB, which is not what the net was trained on")
    path = output.folder / "videos" / item.name.with_name(item.name.name + ".mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(item.path)) as source:
            if not source.streams.video:
                raise UserError(f"{item.path} has no video stream: give another file")
            with atomic.replacing(path) as partial:
                frames = _transcribe(av, (source, partial), labeler, output, item)
            promised = source.streams.video[0].frames  # 0: the file does not say
    except av.error.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise UserError(f"{item.path} is no readable video ({error.strerror}): fetch it again") from error
    if frames < _COMPLETE * promised:
        raise UserError(
            f"{item.path} ends after {frames} of its {promised} frames, which are in {path}: fetch it again"
        )


def _transcribe(av: Any, files: tuple[Any, Path], labeler: Labeler, output: Output, item: Item) -> int:
    """From an open video to a file; the number of frames."""
    source, path = files
    count = 0
    stream = source.streams.video[0]
    rate = stream.average_rate or stream.guessed_rate or 25
    frames = tqdm(_frames(source), desc=str(item.name), unit="frame", leave=False, disable=None)
    with av.open(str(path), "w") as target:
        written: Any = None
        for image in frames:
            # Chroma is stored for pairs of rows and columns: an odd last one is left out.
            height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
            if written is None:
                written = target.add_stream(_codec(av), rate=rate)
                written.height, written.width, written.pix_fmt = height, width, "yuv420p"
                written.bit_rate = 0.2 * height * width * float(rate)
            mask, _ = scene.whole(labeler, image, labeler.how, False)
            blend = image
            if output.overlays:
                colors = pictures.colorize(mask, output.palette)
                blend = pictures.overlay(image, colors, output.opacity, mask != IGNORE)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(blend[:height, :width]), format="rgb24")
            target.mux(written.encode(frame))
            count += 1
        if written is None:
            raise UserError(f"{item.path} has no frames: give another file")
        target.mux(written.encode())
    return count


def _frames(source: Any) -> Iterator[np.ndarray]:
    for frame in source.decode(video=0):
        yield frame.to_ndarray(format="rgb24")


def _codec(av: Any) -> str:
    """H.264 where the installed FFmpeg has an encoder, else MPEG-4 part 2, which every one has."""
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


def _av() -> Any:
    try:
        import av
        import av.error
    except ImportError as error:
        raise UserError("videos need PyAV: pip install 'segrail[video]'") from error
    return av
