"""DALI's output batches as torch tensors."""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import torch
from nvidia.dali.backend import TensorCPU


class Outputs:
    """Hands DALI's batches over; on a GPU as copies in torch's own memory.

    Viewing DALI's GPU memory through DLPack instead would free it from a thread that calls cudaDeviceSynchronize for
    every batch: a spinning core, a stall of the queue, and an error while a CUDA graph is being captured. The copy of
    8 crops of 512x512 is 6 MB, some microseconds of a GPU's memory bandwidth.
    """

    def __init__(self) -> None:
        # What is being copied, until the GPU is past it.
        self._held: deque[tuple[torch.cuda.Event, Any]] = deque()

    def tensor(self, batch: Any) -> torch.Tensor:
        """A DALI batch of uint8 arrays of equal shapes -> a tensor [B, ...] on its device.

        On a GPU it is ready for work queued on the current stream; nothing waits for it here. On a CPU it is a view,
        valid for as long as it is held (dynamic executor).
        """
        dense = batch.as_tensor()
        if isinstance(dense, TensorCPU):
            return torch.from_dlpack(dense)
        device = torch.device("cuda", dense.device_id())
        stream = torch.cuda.current_stream(device)
        copy = torch.empty(dense.shape(), dtype=torch.uint8, device=device)
        dense.copy_to_external(ctypes.c_void_p(copy.data_ptr()), ctypes.c_void_p(stream.cuda_stream), non_blocking=True)
        self._held.append((stream.record_event(), dense))
        while self._held and self._held[0][0].query():
            self._held.popleft()
        return copy
