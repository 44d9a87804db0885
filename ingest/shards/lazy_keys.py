"""The keys of a split, each made when it is asked for: ten million strings would take a gigabyte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload


class LazyKeys(Sequence[str]):
    """Reads as a list of strings; slices are lists. Compared by content, as lists are."""

    def __init__(self, count: int, key: Callable[[int], str]) -> None:
        """count: how many. key: of a sample, 0 to count - 1."""
        self._count, self._key = count, key

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, sample: int) -> str: ...
    @overload
    def __getitem__(self, sample: slice) -> list[str]: ...
    def __getitem__(self, sample: int | slice) -> str | list[str]:
        if isinstance(sample, slice):
            return [self._key(i) for i in range(*sample.indices(self._count))]
        if not -self._count <= sample < self._count:
            raise IndexError(f"sample {sample} of {self._count}")
        return self._key(int(sample) % self._count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        raise TypeError("keys are compared by content, as lists are: they have no hash")
