"""Where files go: a folder tree, or the archives a user would have downloaded instead."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from ingest.scenes.layouts.layout import Archive, File
from ingest.shards import atomic

_STAMP = (2016, 1, 1, 0, 0, 0)  # fixed, so that the same scenes give the same archive


@dataclass
class Folder:
    """Writes files below `root`."""

    root: Path

    def add(self, files: list[File]) -> None:
        for name, content in files:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.named(path):
                path.write_bytes(content)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass
class Archives:
    """Writes files into zips and tars below `root`, by their path's longest matching prefix; the rest lies loose."""

    root: Path
    rules: dict[str, Archive]
    _open: dict[str, zipfile.ZipFile | tarfile.TarFile] = field(default_factory=dict)
    _streams: list[gzip.GzipFile] = field(default_factory=list)

    def add(self, files: list[File]) -> None:
        for name, content in files:
            prefix = max((rule for rule in self.rules if name.startswith(rule)), key=len, default=None)
            if prefix is None:
                Folder(self.root).add([(name, content)])
                continue
            rule = self.rules[prefix]
            inside = rule.inside + name[len(prefix) :]
            if rule.name:
                self._member(rule.name, inside, content)
            else:
                Folder(self.root).add([(inside, content)])

    def _member(self, archive: str, name: str, content: bytes) -> None:
        if archive not in self._open:
            path = self.root / archive
            self._open[archive] = zipfile.ZipFile(path, "w") if path.suffix == ".zip" else self._tar(path)
        held = self._open[archive]
        if isinstance(held, zipfile.ZipFile):
            held.writestr(zipfile.ZipInfo(name, _STAMP), content, zipfile.ZIP_DEFLATED)
        else:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            held.addfile(info, io.BytesIO(content))

    def close(self) -> None:
        """Ends the archives; before it they cannot be read."""
        for held in (*self._open.values(), *self._streams):
            held.close()

    def _tar(self, path: Path) -> tarfile.TarFile:
        if path.suffix == ".tar":
            return tarfile.open(path, "w")
        self._streams.append(gzip.GzipFile(path, "wb", mtime=0))  # tarfile's own would write the time
        return tarfile.open(fileobj=self._streams[-1], mode="w")
