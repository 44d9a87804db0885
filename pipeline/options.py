"""A command's options as one dataclass, instead of as many parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Options = TypeVar("Options")
Result = TypeVar("Result")


def bundled(kind: Callable[..., Options]) -> Callable[[Callable[[Options], Result]], Callable[..., Result]]:
    """Decorates a click command (below its options) that takes `kind`, whose fields are the options' names.

    click calls a command with a keyword for each option; a field that has no option, or an option that has no field, is
    a TypeError.
    """

    def decorate(command: Callable[[Options], Result]) -> Callable[..., Result]:
        @wraps(command)
        def called(**values: Any) -> Result:
            return command(kind(**values))

        return called

    return decorate
