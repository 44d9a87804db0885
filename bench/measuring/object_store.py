"""An S3-compatible server on this machine (moto's), behind a link of a given speed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec

import fsspec

from ingest.errors import UserError

_CHUNK = 1 << 14


class Link:
    """A TCP relay to `port` of this machine that lets `bytes_per_second` come back in all, over all connections."""

    def __init__(self, port: int, bytes_per_second: float) -> None:
        self.bytes = 0
        """That came back so far."""
        self._target, self._rate = port, bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No new connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._relay, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(far, near, True), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(_CHUNK):
                if counted:
                    self._wait(len(content))
                target.sendall(content)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait(self, content: int) -> None:
        """Until the link has carried that much more."""
        with self._lock:
            self.bytes += content
            self._free_at = max(self._free_at, time.monotonic()) + content / self._rate
            pause = self._free_at - time.monotonic()
        time.sleep(max(0.0, pause))


@contextlib.contextmanager
def serving(bytes_per_second: float) -> Iterator[tuple[Link, dict[str, str]]]:
    """A server without content: its link, and the environment in which `s3://` means it through the link.

    UserError when moto or s3fs is not installed.
    """
    missing = [name for name in ("moto", "s3fs") if find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed: pip install 'moto[server]' s3fs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    link = Link(port, bytes_per_second)
    try:
        _wait_for(port, server)
        yield link, environment(link.port)
    finally:
        link.close()
        server.terminate()
        server.wait()
        # fsspec keeps file systems; this one would go on asking a port that is gone
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def environment(port: int) -> dict[str, str]:
    """This process's, with `s3://` on a port of this machine."""
    return os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise UserError(f"moto's server ended with code {server.returncode}: try `python -m moto.server`")
