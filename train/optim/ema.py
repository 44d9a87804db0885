"""An exponential moving average of the weights: often a little better to evaluate than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ingest.errors import UserError
from train.checkpoints.state import Averages


class Ema:
    """The average of a net's parameters and running statistics, on their device, in their dtype and memory format.

    After step s (from 0) each average moves to d average + (1 - d) value, with d = `decay_at(decay, s)`. Batch norm's
    statistics are averaged likewise, since those of the last few steps belong to the weights of the last few steps
    (ENet on CamVid after 150, 300, 600, 900 steps: mIoU 20.6, 27.7, 33.6, 37.6, and 19.7, 25.4, 34.7, 36.0 without).
    Counts (`num_batches_tracked`) are the net's own. Every rank holds the same parameters and so the same average of
    them; statistics are each rank's own, see `statistics`.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Starts as a copy of the net. decay: in [0, 1); 0.999 looks back over about the last 1000 steps."""
        self.decay = decay
        self.steps = 0
        self._net, self._values = net, list(averaged_state(net).values())
        self._average = {name: value.detach().clone() for name, value in averaged_state(net).items()}
        self._statistics = set(self._average) - {name for name, _ in net.named_parameters()}
        self._lent = False

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Call after each optimizer step. A few kernels for all parameters together; waits for no device."""
        if self._lent:
            raise RuntimeError("the net holds the averaged weights now: update it outside of `averaged`")
        torch._foreach_lerp_(list(self._average.values()), self._live(net), 1 - decay_at(self.decay, self.steps))
        self.steps += 1

    @contextmanager
    def averaged(self, net: nn.Module) -> Iterator[None]:
        """Within the block the net holds the average, to be evaluated or saved; afterwards its own weights again.

        Values are copied in place: the optimizer, DDP and compiled code keep their tensors. One more copy of the
        weights lives as long as the block.
        """
        if self._lent:
            raise RuntimeError("the net holds the averaged weights already: `averaged` does not nest")
        held = self._live(net)
        own = [value.detach().clone() for value in held]
        self._lent = True
        try:
            _copy(held, list(self._average.values()))
            yield
        finally:
            _copy(held, own)
            self._lent = False

    def _live(self, net: nn.Module) -> list[torch.Tensor]:
        """The net's own tensors; gathered once for the net that is trained, since large ones have a thousand."""
        return self._values if net is self._net else list(averaged_state(net).values())

    def copy_to(self, net: nn.Module) -> None:
        """Overwrites the net's values with the average, for good."""
        _copy(self._live(net), list(self._average.values()))

    def statistics(self) -> list[torch.Tensor]:
        """The averaged running statistics: to be made the same on all ranks wherever they are used."""
        return [self._average[name] for name in self._average if name in self._statistics]

    def state_dict(self) -> Averages:
        """For the checkpoint: {"steps": int, "average": name -> tensor}; the tensors, not copies of them."""
        return {"steps": self.steps, "average": dict(self._average)}

    def load_state_dict(self, state: Averages) -> None:
        """Goes on from `state_dict()`. UserError when it belongs to another net; then nothing has changed."""
        average = state["average"]
        for name in [*self._average, *average]:
            here, there = (tuple(each[name].shape) if name in each else None for each in (self._average, average))
            if here != there:
                raise UserError(
                    f"the checkpoint's averaged weights are of another net: {name} is {_described(there)} there and "
                    f"{_described(here)} here; keep the net section that it was trained with"
                )
        _copy(list(self._average.values()), [average[name] for name in self._average])
        self.steps = state["steps"]


def decay_at(decay: float, step: int) -> float:
    """min(decay, (1 + step) / (10 + step)): so that the random weights of the start are soon forgotten.

    The warm-up is that of TensorFlow's ExponentialMovingAverage with `num_updates`.
    """
    return min(decay, (1 + step) / (10 + step))


def averaged_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes, by its name in the state dict, the net's own tensors: parameters, running statistics.

    Not counts, and not buffers that are constant: some hold infinities.
    """
    statistics = (".running_mean", ".running_var")
    buffers = {name: buffer for name, buffer in net.named_buffers() if name.endswith(statistics)}
    return {**dict(net.named_parameters()), **buffers}


@torch.no_grad()
def _copy(to: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    torch._foreach_copy_(to, values)


def _described(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"
