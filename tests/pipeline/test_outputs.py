"""DALI's GPU batches are copied on torch's stream and kept until the GPU is past it; tests/pipeline/test_gpu.py has the
real ones."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.gpu.outputs import Outputs


class FakeEvent:
    def __init__(self) -> None:
        self.passed = False

    def query(self) -> bool:
        return self.passed


class FakeStream:
    cuda_stream = 1234

    def __init__(self) -> None:
        self.events: list[FakeEvent] = []

    def record_event(self) -> FakeEvent:
        self.events.append(FakeEvent())
        return self.events[-1]


class FakeBatch:
    """Stands for DALI's TensorListGPU and its TensorGPU."""

    def __init__(self, pixels: np.ndarray, asked: list[tuple[int, bool]]) -> None:
        self.pixels, self.asked = np.ascontiguousarray(pixels), asked

    def as_tensor(self) -> FakeBatch:
        return self

    def device_id(self) -> int:
        return 3

    def shape(self) -> list[int]:
        return list(self.pixels.shape)

    def copy_to_external(self, ptr: ctypes.c_void_p, cuda_stream: ctypes.c_void_p, non_blocking: bool) -> None:
        self.asked.append((cuda_stream.value or 0, non_blocking))
        ctypes.memmove(ptr, self.pixels.ctypes.data, self.pixels.nbytes)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    stream, empty, asked = FakeStream(), torch.empty, []

    def on_cpu(shape: list[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        asked.append(device)
        assert device == torch.device("cuda", 3)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", on_cpu)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return stream


def test_gpu_batches_are_copied_without_waiting_and_kept_until_they_are(stream: FakeStream) -> None:
    asked: list[tuple[int, bool]] = []
    batches = [FakeBatch(np.full((2, 4, 5, 3), value, np.uint8), asked) for value in range(4)]
    outputs, made = Outputs(), []
    for number, batch in enumerate(batches):
        made.append(outputs.tensor(batch))
        held: list[Any] = [held for _, held in outputs._held]
        assert held == batches[max(0, number - 1) : number + 1]
        for event in stream.events[:number]:
            event.passed = True  # the GPU is one batch behind
    assert asked == [(1234, True)] * 4
    for value, tensor in enumerate(made):
        assert tensor.shape == (2, 4, 5, 3) and bool((tensor == value).all())
