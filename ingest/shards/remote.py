"""Shard folders elsewhere: `s3://`, `gs://`, `memory://`... through fsspec, staged into a bounded local cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ingest.errors import UserError
from ingest.shards import manifest

CACHE = Path(os.environ.get("SEGRAIL_CACHE", Path.home() / ".cache" / "segrail"))


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether fsspec has to open it: it has a scheme."""
    return "://" in str(place)


def stage(url: str, cache_dir: str | os.PathLike[str] = CACHE / "staged", max_bytes: int = 50 * 10**9) -> Path:
    """Copies a shard folder to a local one, and returns that; what is already there in the right size stays.

    The folder's name is a hash of the URL and of its dataset.json, so another dataset under the same URL is another
    folder. Other staged datasets, least recently used first, go when the cache would hold more than `max_bytes`.
    Raises UserError when the URL holds no finished dataset, is unreachable, or is larger than `max_bytes`.
    """
    system, root = _open(url)
    try:
        raw = system.cat_file(f"{root}/{manifest.FILE}")
    except FileNotFoundError as error:
        raise UserError(f"{url} has no dataset.json: ingest did not finish there, or it is another folder") from error
    except Exception as error:  # every file system has errors of its own
        raise UserError(f"{url} cannot be reached ({error}): check the URL and your credentials") from error
    digest = hashlib.sha256(url.encode() + b"\0" + raw).hexdigest()[:16]
    folder = Path(cache_dir) / digest
    folder.mkdir(parents=True, exist_ok=True)
    # The ranks of one machine share the cache: the first fetches, the others wait and find everything there.
    with open(Path(cache_dir) / f"{digest}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch(system, root, url, raw, folder, max_bytes)
    return folder


def _fetch(system: Any, root: str, url: str, raw: bytes, folder: Path, max_bytes: int) -> None:
    """What of the dataset is not yet in `folder`; `dataset.json` last."""
    (folder / f"{manifest.FILE}.remote").write_bytes(raw)
    facts = manifest.parse(raw, folder / manifest.FILE)
    sizes = {f"{shard.name}.tar": shard.bytes for split in facts.splits.values() for shard in split.shards}
    indexes = {manifest.index_name(name): split.index.bytes for name, split in facts.splits.items() if split.index}
    total = sum(sizes.values()) + sum(indexes.values())
    if total > max_bytes:
        raise UserError(f"{url} holds {total:,} bytes, the cache may hold {max_bytes:,}: allow it more")
    _make_room(folder.parent, folder, max_bytes - total)
    small = {name.replace(".tar", ext): None for name in sizes for ext in (".idx", ".json")}
    for file, size in (sizes | indexes | small).items():
        local = folder / file
        if not local.exists() or (size is not None and local.stat().st_size != size):
            _get(system, f"{root}/{file}", local, f"{url}/{file}")
    (folder / f"{manifest.FILE}.remote").replace(folder / manifest.FILE)  # last: now it is whole
    os.utime(folder)


def upload(folder: Path, url: str) -> None:
    """Copies a finished shard folder to a URL, dataset.json last. Raises UserError when that is not empty."""
    refuse_existing(url)
    names = sorted(path.name for path in folder.iterdir() if path.name != manifest.FILE)
    put(folder, [*names, manifest.FILE], url)


def put(folder: Path, names: Iterable[str], url: str) -> None:
    """Copies these files of a folder to a URL, in their order. UserError when one cannot be written."""
    system, root = _open(url)
    for name in names:
        try:
            system.makedirs(root, exist_ok=True)
            system.put_file(str(folder / name), f"{root}/{name}")
        except Exception as error:
            raise UserError(f"{url}/{name} cannot be written ({error}): check the URL and your credentials") from error


def size(url: str) -> int | None:
    """Bytes of a file behind a URL; None where there is none."""
    system, path = _open(url)
    try:
        return int(system.size(path))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise UserError(f"{url} cannot be reached ({error}): check the URL and your credentials") from error


def refuse_existing(url: str) -> None:
    """UserError when a finished dataset lies there already."""
    system, root = _open(url)
    try:
        there = system.exists(f"{root}/{manifest.FILE}")
    except Exception as error:
        raise UserError(f"{url} cannot be reached ({error}): check the URL and your credentials") from error
    if there:
        raise UserError(f"{url} exists: give another --out, or delete it first")


def _open(url: str) -> tuple[Any, str]:
    """(file system, path in it) of a URL."""
    import fsspec  # only for URLs

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}") from error
    system.invalidate_cache()
    return system, root.rstrip("/")


def _get(system: Any, source: str, local: Path, shown: str) -> None:
    partial = local.with_name(f"{local.name}.{os.getpid()}.partial")
    try:
        system.get_file(source, str(partial))
        partial.replace(local)
    except FileNotFoundError as error:
        raise UserError(f"{shown} is missing: upload the dataset again") from error
    except OSError as error:
        raise UserError(f"{shown} cannot be fetched ({error}): check the network and {local.parent}") from error
    finally:
        partial.unlink(missing_ok=True)


def _make_room(cache: Path, keep: Path, room: int) -> None:
    """Removes staged datasets, least recently used first, until the others fit into `room` bytes."""
    others = sorted(
        (one for one in cache.iterdir() if one.is_dir() and one != keep), key=lambda one: one.stat().st_mtime
    )
    held = {one: sum(path.stat().st_size for path in one.iterdir() if path.is_file()) for one in others}
    for one in others:
        if sum(held.values()) <= room:
            return
        shutil.rmtree(one, ignore_errors=True)
        del held[one]
