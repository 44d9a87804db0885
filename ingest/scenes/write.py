"""Writes scenes to disk: parallel over processes, the same bytes for any number of them, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
from tqdm import tqdm

from ingest.errors import UserError, nearest
from ingest.processes import Work, in_order
from ingest.scenes.layouts import LAYOUTS
from ingest.scenes.layouts.layout import SPLIT_STRIDE, File, Job, Layout
from ingest.scenes.pack import Archives, Folder


def write(
    folder: str | os.PathLike[str],
    layout: str = "folder",
    counts: dict[str, int] | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    workers: int | None = None,
    archives: bool = False,
    progress: bool = False,
) -> Path:
    """Draws scenes into a new folder, in the on-disk layout of that name. Returns the folder.

    `counts`: scenes a split; splits left out get the layout's default. `size`: (height, width) in pixels. `archives`:
    the official zips and tars instead of what they unpack to. Scene i of a split depends on (seed, split, i, size)
    alone. Raises UserError on an unknown layout or split, a bad count or size, or when the folder exists and is not
    empty; whatever stops it, no folder of that name is left behind.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}{nearest(layout, LAYOUTS)}")
    chosen = LAYOUTS[layout]
    height, width = size or chosen.size
    if not (32 <= height <= 8192 and 32 <= width <= 8192):
        raise UserError(f"size {height}x{width}: each side must be 32 to 8192 pixels, for example 192x256")
    if archives and not chosen.archives:
        raise UserError(f"layout {layout!r} has no official archives: leave --archives out")
    wanted = _counts(chosen, counts or {})
    jobs = [Job(split, index, seed, height, width) for split, count in wanted.items() for index in range(count)]
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder: name another one, or remove it first")

    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    sink = Archives(partial, chosen.archives) if archives else Folder(partial)
    try:
        drawn = _draw(layout, jobs, workers)
        for files in tqdm(drawn, total=len(jobs), unit="scene", disable=None if progress else True):
            sink.add(files)
        sink.add(chosen.lists(wanted))
        sink.close()
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _counts(layout: Layout, counts: dict[str, int]) -> dict[str, int]:
    """Scenes a split: the layout's own numbers under the given ones."""
    for split, count in counts.items():
        if split not in layout.splits:
            raise UserError(f"layout {layout.name!r} has no split {split!r}{nearest(split, layout.splits)}")
        if not 0 <= count < SPLIT_STRIDE:
            raise UserError(f"{split}: cannot draw {count} scenes; give 0 to {SPLIT_STRIDE - 1}")
    wanted = {**layout.splits, **counts}
    if not any(wanted.values()):
        raise UserError(f"nothing to draw: all splits of layout {layout.name!r} have 0 scenes")
    return wanted


def _draw(layout: str, jobs: list[Job], workers: int | None) -> Iterator[list[File]]:
    """Each job's files, in the jobs' order."""
    # a process takes as long to start as it takes to draw a handful of scenes
    count = min(1 + len(jobs) // 8, workers or len(os.sched_getaffinity(0)))
    if count <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # the pictures are too small to share among threads
        try:
            yield from (LAYOUTS[layout].files(job) for job in jobs)
        finally:
            cv2.setNumThreads(threads)
        return
    # one thread each, the processes are enough
    work = Work(_files, _name, cv2.setNumThreads, (1,))
    with contextlib.closing(in_order([(layout, job) for job in jobs], work, count)) as made:
        yield from made


def _name(work: tuple[str, Job]) -> str:
    return f"scene {work[1].index} of {work[1].split}"


def _files(work: tuple[str, Job]) -> list[File]:
    layout, job = work
    return LAYOUTS[layout].files(job)
