"""What SIGTERM does after the loop: as before it, but where one of several ranks is about to end with an error."""

from __future__ import annotations

import signal

import pytest
import torch

from train.distributed import Ranks
from train.stopping import Stop


@pytest.mark.parametrize(("ranks", "after"), [(1, signal.SIG_DFL), (2, signal.SIG_IGN)])
def test_after_an_error_torchruns_signal_is_ignored(ranks: int, after: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop = Stop(Ranks(0, ranks, 0, ranks, torch.device("cpu")))
    try:
        with pytest.raises(ArithmeticError), stop.watching():
            assert signal.getsignal(signal.SIGTERM) == stop._ask
            raise ArithmeticError
        assert signal.getsignal(signal.SIGTERM) == after
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with stop.watching():
            pass
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
