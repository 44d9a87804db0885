"""Counts of trials; the long part (`make faults`, FAULTS=long) keeps them and writes docs/reliability.md."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ROOT
from tests.faults import ledger
from tests.faults.ledger import Tally
from tests.ingest.conftest import quick, raw  # noqa: F401  (fixtures)
from tests.train.conftest import raw_recipe, toy, trained  # noqa: F401  (fixtures)

LONG = os.environ.get("FAULTS") == "long"
KEPT = ROOT / "build" / "faults"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long part is given time."""
    for item in items:
        if LONG and "faults" in str(item.path):
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture
def many() -> Callable[[int, int], int]:
    """many(short, long): how many trials this part makes."""
    return lambda short, long: long if LONG else short


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Tally]]:
    """tally(section, promise): a count of trials; the test fails where one was lost or none was made."""
    made: list[Tally] = []

    def start(section: str, promise: str) -> Tally:
        made.append(Tally(section, promise))
        return made[-1]

    yield start
    failed = getattr(request.node, "failed", False)
    for number, one in enumerate(made):
        if failed and not one.lost:
            one.lost.append("the test itself failed")
        if LONG:
            ledger.save(one, KEPT, re.sub(r"\W+", "-", f"{request.node.nodeid}-{number}"))
    for one in made:
        assert one.trials, f"{one.promise}: no trial was made"
        assert not one.lost, f"{one.promise}: {len(one.lost)} of {one.trials} lost: {one.lost[:5]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        item.failed = True
    return report


def pytest_sessionfinish() -> None:
    if LONG and KEPT.is_dir():
        (ROOT / "docs" / "reliability.md").write_text(ledger.page(ledger.load(KEPT)))
