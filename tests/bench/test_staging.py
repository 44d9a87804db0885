"""The link's speed and count, and (slow) the whole measurement on a real S3 protocol."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import staging
from bench.measuring.object_store import Link


def test_a_link_carries_all_bytes_at_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("bench.measuring.object_store.time.sleep", pauses.append)
    content = bytes(range(256)) * 1000
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as near:
                assert near.recv(3) == b"get"
                near.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        link = Link(server.getsockname()[1], bytes_per_second=100 * len(content))
        with socket.create_connection(("127.0.0.1", link.port)) as client:
            client.sendall(b"get")
            got = b""
            while more := client.recv(1 << 16):
                got += more
        thread.join()
        link.close()
    assert got == content and link.bytes == len(content)
    assert 0 < max(pauses) <= 0.01  # what the last bytes have to wait for, when all came at once


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    words = ["--images", "96", "--mb-per-second", "0.4", "--repeats", "1", "--json", str(tmp_path / "x.json")]
    done = CliRunner().invoke(staging.main, words)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert set(rows) == set(staging.ROWS) and all(row in done.stdout for row in rows)
    whole, planned, tight = rows["whole set first"], rows["in the plan's order"], rows["the same, cache of half"]
    assert planned["first_s"] < whole["first_s"] and planned["fetched_mb"] <= whole["link_mb"]
    assert tight["cache_mb"] < 0.6 * planned["cache_mb"]
