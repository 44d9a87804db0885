"""What the ranks tell each other: who fails first, who hangs, who is gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch.distributed as dist

from train import heartbeat
from train.heartbeat import Heartbeat


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> list[Heartbeat]:
    """Three ranks that have a patience of a second and beat when told to; each look at the others takes no time."""
    store = dist.HashStore()
    ranks = [Heartbeat(store, rank, 3, patience=1.0) for rank in range(3)]
    monkeypatch.setattr(
        heartbeat.time, "sleep", lambda _: [rank._beat() for rank in ranks if not hasattr(rank, "gone")]
    )
    for rank in ranks:
        rank._beat()
    return ranks


def test_only_the_first_failure_is_told(three: list[Heartbeat]) -> None:
    assert three[1].failed() is None
    assert three[1].claim("error: a") is None
    assert three[0].claim("error: b") == "error: a" and three[1].claim("error: a") is None
    assert three[2].failed() == "error: a"


def test_a_rank_that_stands_still_is_named(three: list[Heartbeat], monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in three:
        rank.at("step 7, the next batch")
    for rank in (three[0], three[2]):
        rank.at("step 7, the net")
    assert three[0]._missing() is None  # late, but at work
    later = time.monotonic() + 2
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: later)
    line = three[0]._missing()
    assert line is not None and "rank 1 (pid" in line and "stands at step 7, the next batch" in line, line
    assert "the others wait at step 7, the net" in line and "rank 2" not in line
    assert three[1]._missing() is None  # nobody is behind it
    three[1].tick()  # it got something done after all
    assert three[0]._missing() is None


def test_the_rank_that_the_others_wait_for_at_one_place_is_named(
    three: list[Heartbeat], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in three:
        rank.at("the checkpoint of step 8")
    with three[1].waiting(), three[2].waiting():
        later = time.monotonic() + 2
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: later)
        line = three[2]._missing()
        assert line is not None and "rank 0 (pid" in line and "rank 1" not in line
        assert three[0]._missing() is None


def test_a_rank_that_is_gone_is_named(three: list[Heartbeat]) -> None:
    three[2].gone = True  # type: ignore[attr-defined]
    assert [text.split(" (")[0] for text in three[0].silent()] == ["rank 2"]


def test_without_a_store_every_failure_is_told(tmp_path: Path) -> None:
    class Gone(dist.HashStore):
        def compare_set(self, *_: object) -> bytes:
            raise RuntimeError("Connection reset by peer")

    alone = Heartbeat(Gone(), 0, 2, patience=1.0)
    assert alone.claim("error: a") is None and alone.failed() is None
