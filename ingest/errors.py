"""A user's mistake: one line that names the file, the value and the fix; exit code 2; never a traceback."""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
import sys
from collections.abc import Iterable
from typing import NoReturn

import click

# What the machine, not the program, did wrong; each with what the user can do about it.
_MACHINE_ERRORS = {
    errno.ENOSPC: "free some space or write to another disk",
    errno.EDQUOT: "free some of your quota or write to another disk",
    errno.EFBIG: "write to a disk that takes files of that size (and see `ulimit -f`)",
    errno.EROFS: "write to a folder on a writable disk",
    errno.EACCES: "check the permissions or choose another folder",
    errno.EPERM: "check the permissions or choose another folder",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "something of that name is in the way: choose another",
    errno.ELOOP: "a link leads to itself: mend it",
    errno.EISDIR: "it is a folder: give a file's name",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EIO: "the disk reports a fault: check it, or copy the data elsewhere",
}
_LONGEST = 2000  # letters of a message


class UserError(ValueError):
    """A mistake of the caller, not of the program. The message is one line: cause, value, remedy."""


def brief(value: object, limit: int = 120) -> str:
    """A value as an error shows it: its repr on one line, shortened where it is long, deep, or holds itself.

    null, true and false as in the YAML file where they were written.
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = shorten.maxlong = limit
    shorten.maxlist = shorten.maxtuple = shorten.maxdict = 20
    try:
        text = shorten.repr(value)
    except ValueError as error:  # an integer of more digits than Python writes out
        return f"<{type(value).__name__}: {str(error).partition(';')[0]}>"
    return text if len(text) <= 4 * limit else f"{text[: 2 * limit]} ... ({len(text):,} characters)"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Ends an unknown-name message: `; did you mean 'x'? Choices: x, y, z`."""
    names = [str(choice) for choice in choices]
    close = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.5)  # a name of megabytes is close to none
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Choices: {', '.join(names)}"


def one_line(text: str) -> str:
    """A message as a terminal shows it safely: on one line, with odd characters escaped, at most 2,000 letters.

    File names may hold line feeds, terminal codes and bytes that are no UTF-8; a value may be a whole file.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 3 // 4]} [...] {text[-_LONGEST // 4 :]}"
    return re.sub(r"[^ -~\xa0-\ud7ff\ue000-\U0010ffff]", lambda odd: odd[0].encode("unicode_escape").decode(), text)


def message(error: BaseException) -> str:
    """What a library says of an error, on one line; the error's kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def explain(error: BaseException) -> tuple[str, int] | None:
    """What is said of an error, in a line, and the exit code; None for a fault of the program: its traceback is wanted.

    2: a user's mistake, or a full disk and the like; 130: interrupted.
    """
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return "interrupted", 130
    if isinstance(error, UserError):
        return f"error: {one_line(str(error))}", 2
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
        where = f" ({brief(str(error.filename), 400)[1:-1]})" if error.filename else ""
        return one_line(f"error: {error.strerror}{where}: {_MACHINE_ERRORS[error.errno]}"), 2
    return None


def run(command: click.Command, prog_name: str) -> NoReturn:
    """Runs a click command to its exit code: 0 done, else `explain`'s."""
    try:
        code = command.main(prog_name=prog_name, standalone_mode=False)
    except click.ClickException as error:  # wrong flags: click's own usage text
        error.show()
        sys.exit(error.exit_code)
    except BaseException as error:
        if (told := explain(error)) is None:
            raise
        click.echo(told[0], err=True)
        sys.exit(told[1])
    sys.exit(code if isinstance(code, int) else 0)
