"""A file is whole or as it was: after errors, a full disk, a kill, and with two writers at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from ingest.shards import atomic


def test_text_json_and_bytes_arrive(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a.txt", "größe\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\n".encode()
    atomic.write_json(tmp_path / "a.json", {"b": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None]}
    atomic.write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic.opened(path) as file:
        file.write(b"half")
        _ = 1 / 0
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.bin"]


def test_a_library_gets_a_path_with_the_suffix(tmp_path: Path) -> None:
    with atomic.replacing(tmp_path / "sheet.png") as path:
        Image.new("RGB", (3, 2)).save(path)  # Pillow goes by the suffix
        assert not list(tmp_path.glob("*.png"))  # nothing that a pattern would take for a finished file
    assert Image.open(tmp_path / "sheet.png").size == (3, 2)


def test_a_full_disk_names_the_file() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        atomic.write_bytes("/dev/full", b"x" * 100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_full_disk_while_syncing_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        atomic.write_text(tmp_path / "x.json", "{}")
    assert caught.value.filename == str(tmp_path / "x.json") and not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("place", "error"),
    [("missing/x", FileNotFoundError), ("file/x", NotADirectoryError), ("folder", IsADirectoryError)],
)
def test_where_nothing_can_be_written_the_asked_file_is_named(tmp_path: Path, place: str, error: type) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(error) as caught:
        atomic.write_text(tmp_path / place, "")
    assert caught.value.filename == str(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic.opened(tmp_path / "copy") as file:
        file.write(Path(tmp_path / "source").read_bytes())
    assert caught.value.filename == str(tmp_path / "source")


def test_links_stay_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    atomic.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    atomic.write_text("/dev/null", "gone")
    code = "from ingest.shards import atomic; atomic.write_text('/dev/stdout', 'seen')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "seen"


def test_names_at_the_limit_of_the_file_system(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / ("ä" * 127), "x")
    assert os.listdir(tmp_path) == ["ä" * 127]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    contents = [bytes([number]) * 50_000 for number in range(8)]
    path = tmp_path / "x"
    threads = [threading.Thread(target=atomic.write_bytes, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and os.listdir(tmp_path) == ["x"]


def test_a_kill_leaves_the_old_file_and_what_sweep_removes(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from ingest.shards import atomic\n"
        "with atomic.opened(sys.argv[1]) as file: file.write(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    (tmp_path / "older.partial").write_bytes(b"a plain file, as earlier versions left")
    assert path.read_bytes() == b"old" and list(tmp_path.glob("*.pt")) == [path] and len(os.listdir(tmp_path)) == 3
    atomic.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["x.pt"]


def test_what_a_killed_writer_left_is_swept_by_a_later_one(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, long_ago = int(ended.stdout), time.time() - 3600
    places = {
        "dead": tmp_path / f"map.tif.{dead}-0.partial",
        "just now": tmp_path / f"map.tif.{dead}-1.partial",
        "alive": tmp_path / f"map.tif.{os.getpid()}-7.partial",
        "ingest's": tmp_path / "shards.partial",
    }
    for name, folder in places.items():
        folder.mkdir()
        (folder / "map.tif").write_bytes(b"half")
        if name != "just now":
            os.utime(folder / "map.tif", (long_ago, long_ago))
        os.utime(folder, (long_ago, long_ago))
    atomic.write_text(tmp_path / "map.tif", "whole")
    assert [name for name, folder in places.items() if folder.exists()] == ["just now", "alive", "ingest's"]


def test_a_folder_is_replaced_by_exactly_these_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "f"
    atomic.replace_folder(folder, {"a": b"1", "b": b"2"})
    atomic.replace_folder(folder, {"b": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b": b"3"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError):
        atomic.replace_folder(folder, {"c": b"4"})
    assert [path.name for path in folder.iterdir()] == ["b"] and list(tmp_path.iterdir()) == [folder]
