"""Shards made by the workers of a Dask cluster: the same plan, the same bytes, a shard a task.

The process that was started with `--dask` plans, hands out shards and writes `dataset.json`; workers read the source
files by the same paths, and write whole shards into the output folder, which they share, or to a URL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest.convert import Rules, convert_all
from ingest.errors import UserError, message
from ingest.one_shard import write_shard
from ingest.plan import PlannedShard
from ingest.resume import begin, finished
from ingest.shards import atomic
from ingest.shards.remote import urls
from ingest.sources.archives import Source

_PATIENCE = 20.0  # seconds for a scheduler to answer
_WINDOW = 256  # shards handed out at a time, at least: what waits tells adaptive clusters how many workers to start
_SHOWN_LATE = 120.0  # seconds until a network file system shows a file that another machine wrote
# What encodes and scales: other versions may give other bytes.
_LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "simplejpeg", "deflate")


@dataclass(frozen=True)
class Job:
    """A shard to be made."""

    shard: PlannedShard
    mark: str
    """The stamp of its sources, as `ingest.resume.finished` wants it."""
    rules: Rules
    url: str | None = None
    """Where it goes; None: into the rules' folder."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the libraries, as the worker's have to be; empty: they are not compared."""


def write_shards(jobs: list[Job], address: str, made: Callable[[int], object]) -> None:
    """Has the scheduler's workers make these shards. made: called with the number of samples after each.

    A shard whose worker dies is made by another. UserError where the scheduler does not answer, a worker cannot do the
    work, or a source file is at fault.
    """
    if not jobs:
        return
    folder = Path(jobs[0].rules.folder).absolute()
    versions = _versions()
    with _connected(address) as client:
        waiting = iter(jobs)
        under_way: dict[str, Job] = {}
        done = _module().as_completed(loop=client.loop)

        def hand_out() -> None:
            while len(under_way) < max(_WINDOW, 4 * sum(client.nthreads().values())):
                job = next(waiting, None)
                if job is None:
                    return
                begin(folder, job.shard.name, job.mark)
                job = replace(job, rules=replace(job.rules, folder=str(folder)), versions=versions)
                key = f"segrail-{job.shard.name}-{uuid.uuid4().hex}"
                under_way[key] = job
                done.add(client.submit(make, _packed(job), key=key, pure=False))

        hand_out()
        for future in done:
            job = under_way.pop(future.key)
            record = _result(future, job, address)
            if job.url is not None:
                atomic.write_bytes(folder / f"{job.shard.name}.json", record)
            made(len(job.shard.samples))
            hand_out()
    if jobs[0].url is None:
        _wait_for([folder / f"{job.shard.name}{ext}" for job in jobs for ext in (".tar", ".idx", ".json")])
        atomic.sweep(folder)  # of workers that died


def make(packed: bytes) -> bytes:
    """Runs on a worker: makes one shard. packed: of `_packed`. Returns its record, as the file holds it."""
    job: Job = pickle.loads(packed)
    try:
        if job.versions:
            _refuse_other_versions(job.versions)
        return _make(job)
    except UserError as error:  # a path that is right on one machine may be wrong on another
        raise UserError(f"on worker {platform.node()}: {error}") from error


def _make(job: Job) -> bytes:
    name, folder = job.shard.name, Path(job.rules.folder)
    if job.url is None and not folder.is_dir():
        raise UserError(f"there is no {folder}: give an --out in a folder that all workers share, or a URL")
    if job.url is None and finished(folder, name, job.mark):  # its worker died just after
        return (folder / f"{name}.json").read_bytes()
    files = [f"{name}.tar", f"{name}.idx", f"{name}.json"]
    with _scratch(job) as scratch:
        pairs = (sample.pair for sample in job.shard.samples)
        write_shard(job.shard, scratch, convert_all(pairs, job.rules, 1), len(job.rules.classes))
        record = (scratch / files[-1]).read_bytes()
        if job.url is None:
            # The record last, and each in a moment: a worker that was given up may still be at the same shard.
            for file in files:
                os.replace(scratch / file, folder / file)
        else:
            urls.put(scratch, files, job.url)
    return record


@contextlib.contextmanager
def _scratch(job: Job) -> Iterator[Path]:
    """A folder of this task's own: on the disk that the shard goes to, or for a URL on the worker's."""
    if job.url is not None:
        with tempfile.TemporaryDirectory(prefix="segrail-") as folder:
            yield Path(folder)
        return
    scratch = Path(job.rules.folder) / f"{job.shard.name}.{uuid.uuid4().hex}{atomic.SUFFIX}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Packer(pickle.Pickler):
    """Makes the paths of source files absolute, wherever they stand: workers run in folders of their own."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Source) and not os.path.isabs(value.path):
            return replace(value, path=os.path.abspath(value.path)).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented


def _packed(job: Job) -> bytes:
    buffer = io.BytesIO()
    _Packer(buffer, pickle.HIGHEST_PROTOCOL).dump(job)
    return buffer.getvalue()


def _module() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UserError("--dask needs the package distributed: pip install 'segrail[dask]'") from error
    return distributed


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the scheduler. What it was given to do is cancelled when the block ends with an error."""
    distributed = _module()
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--dask {address}: no Dask scheduler answers there ({message(error)}): check the address"
        ) from error
    with client:
        if not client.nthreads():
            tqdm.write(f"{address} has no workers yet: waiting for the first", file=sys.stderr)
        yield client


def _result(future: Any, job: Job, address: str) -> bytes:
    """The record of a shard that was made. UserError, or OSError of the worker's disk, where it was not."""
    name = job.shard.name
    try:
        return future.result()
    except (UserError, OSError):
        raise
    except _module().KilledWorker as error:
        first = job.shard.samples[0].pair.image.name
        raise UserError(
            f"{name} (its first image: {first}) ended every worker that it was given to: most likely memory ran out; "
            f"give the workers more, or make shards smaller with --shard-size"
        ) from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{name} was not made by the workers of {address} ({reason}): install the same segrail there"
        ) from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("segrail", *_LIBRARIES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _refuse_other_versions(wanted: dict[str, str]) -> None:
    """UserError for the first that differs here."""
    have = _versions()
    for name, version in wanted.items():
        if have.get(name) != version:
            raise UserError(
                f"{name} is {have.get(name, 'not installed')}, where the ingest was started {version}: shards could "
                f"differ; install the same versions"
            )


def _wait_for(files: list[Path]) -> None:
    """Until all are to be seen: network file systems remember for a while that a file was not there."""
    until = time.monotonic() + _SHOWN_LATE
    while missing := [path for path in files if not path.exists()]:
        if time.monotonic() > until:
            raise UserError(
                f"{missing[0]}, which a worker has written, is not to be seen here: is {missing[0].parent} the same "
                f"folder on all machines? If so, go on with --resume"
            )
        os.listdir(missing[0].parent)
        time.sleep(0.5)
