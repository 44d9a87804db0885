"""Shard folders elsewhere: `s3://`, `gs://`, `memory://`... through fsspec: written there, and staged whole from there.

Loaders do not stage them whole, see `ingest.shards.remote.staged`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ingest.errors import UserError
from ingest.shards import atomic, manifest
from ingest.shards.remote.bucket import Bucket, Listed, opened
from ingest.shards.remote.cache import Cache


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether fsspec has to open it: it has a scheme."""
    return "://" in str(place)


def stage(url: str, cache_dir: str | os.PathLike[str] = Cache.folder, max_bytes: int = Cache.max_bytes) -> Path:
    """Copies a whole shard folder to a local one, and returns that; what is already there in the right size stays.

    Raises UserError when the URL holds no finished dataset, is unreachable, or is larger than the cache may be.
    """
    cache, bucket = Cache(Path(cache_dir), max_bytes), opened(url)
    raw = bucket.manifest()
    folder = cache.dataset(url, raw)
    # The processes of one machine share the cache: the first fetches, the others wait and find everything there.
    with cache.used(folder), cache.locked(folder):
        _fetch(bucket, raw, folder, cache)
    return folder


def _fetch(bucket: Bucket, raw: bytes, folder: Path, cache: Cache) -> None:
    """What of the dataset is not yet in `folder`; `dataset.json` last."""
    facts = manifest.parse(raw, folder / manifest.FILE)
    shards = [shard for split in facts.splits.values() for shard in split.shards]
    files = [Listed(f"{shard.name}.tar", shard.bytes, shard.sha256) for shard in shards]
    files += [Listed(manifest.index_name(n), s.index.bytes, s.index.sha256) for n, s in facts.splits.items() if s.index]
    total = sum(file.bytes for file in files)
    if total > cache.max_bytes:
        raise UserError(f"{bucket.url} holds {total:,} bytes, the cache may hold {cache.max_bytes:,}: allow it more")
    for name in (f"{shard.name}{ext}" for shard in shards for ext in (".idx", ".json")):
        if not (folder / name).exists():
            bucket.fetch(name, folder)
    for file in files:
        fetch_listed(bucket, file, folder, cache)
    atomic.write_bytes(folder / manifest.FILE, raw)  # last: now it is whole


def fetch_listed(bucket: Bucket, file: Listed, folder: Path, cache: Cache) -> None:
    """Fetches a file that is to stay, unless it is there. UserError when the cache has no room."""
    local = folder / file.name
    with cache.locked(local):
        if local.exists() and local.stat().st_size == file.bytes:
            return
        if not cache.reserve(local, file.bytes):
            raise UserError(
                f"{bucket.url}/{file.name} finds no room in {cache.folder}, which may hold {cache.max_bytes:,} bytes: "
                f"allow it more, or end the runs that use other datasets there"
            )
        bucket.fetch_listed(file, folder)


def upload(folder: Path, url: str) -> None:
    """Copies a finished shard folder to a URL, dataset.json last. Raises UserError when that is not empty."""
    refuse_existing(url)
    names = sorted(path.name for path in folder.iterdir() if path.name != manifest.FILE)
    put(folder, [*names, manifest.FILE], url)


def put(folder: Path, names: Iterable[str], url: str) -> None:
    """Copies these files of a folder to a URL, in their order. UserError when one cannot be written."""
    bucket = opened(url)
    for name in names:
        try:
            bucket.system.makedirs(bucket.root, exist_ok=True)
            bucket.system.put_file(str(folder / name), f"{bucket.root}/{name}")
        except Exception as error:
            raise UserError(f"{url}/{name} cannot be written ({error}): check the URL and your credentials") from error


def size(url: str) -> int | None:
    """Bytes of a file behind a URL; None where there is none."""
    bucket = opened(url)
    try:
        return int(bucket.system.size(bucket.root))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise bucket.unreachable(error) from error


def refuse_existing(url: str) -> None:
    """UserError when a finished dataset lies there already."""
    bucket = opened(url)
    try:
        there = bucket.system.exists(f"{bucket.root}/{manifest.FILE}")
    except Exception as error:
        raise bucket.unreachable(error) from error
    if there:
        raise UserError(f"{url} exists: give another --out, or delete it first")
