"""The hand-over to a GPU, in a world that records what is asked of it; tests/pipeline/test_gpu.py has the real one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import pytest
import torch

from pipeline.batch import Batch
from pipeline.gpu.handover import copied


class Recorder:
    """Stands for a CUDA stream."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: Recorder) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


def test_copies_are_made_aside_awaited_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    side, net = Recorder("side", log), Recorder("net", log)

    @contextlib.contextmanager
    def on(stream: Recorder) -> Iterator[None]:
        log.append(f"on {stream.name}")
        yield
        log.append(f"off {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: net)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append(f"kept for {stream.name}"))
    closed = []

    def batches() -> Generator[Batch]:
        try:
            for number in range(3):
                labels = torch.full((1, 2, 2), number, dtype=torch.uint8) if number else None
                yield Batch(torch.full((1, 3, 2, 2), number, dtype=torch.uint8), labels, [str(number)], {"a": "b"})
        finally:
            closed.append(True)

    handed = copied(batches(), torch.device("cpu"))
    first = next(handed)
    assert first.labels is None and first.keys == ["0"] and first.skipped == {"a": "b"}
    assert log == ["on side", "off side", "net waits for side", "kept for net"]
    log.clear()
    second = next(handed)
    assert second.labels is not None and (second.labels == 1).all() and (second.images == 1).all()
    assert log == ["on side", "off side", "net waits for side", "kept for net"] * 2
    handed.close()
    assert closed
