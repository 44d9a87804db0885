"""`python -m ingest inspect SRC`, and `ingest folder SRC` without a spec: look, say, write the spec, ask."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from ingest.errors import UserError, one_line
from ingest.inspect.draft import draft
from ingest.inspect.findings import Draft
from ingest.inspect.text import text as text_of
from ingest.shards import atomic
from ingest.sources.trees import Tree
from ingest.spec import yaml_file
from ingest.spec.schema import Spec, check


def inspect(src: Path, err: bool = False) -> Draft:
    """Looks at a folder and says what it concludes; on stderr, where stdout is for programs."""
    made = draft(Tree(src))
    for note in made.notes:
        click.echo(one_line(note), err=err)
    click.echo("for example:", err=err)
    for image, label in made.examples:
        click.echo(one_line(f"  {image}  with  {label}"), err=err)
    for doubt in made.doubts:
        click.echo(one_line(f"in doubt: {doubt}"), err=err)
    return made


def drafted(src: Path, path: Path, yes: bool, dry_run: bool, err: bool = False) -> tuple[Spec, str] | None:
    """A spec for the folder, written to `path`, and `path`; None where the user is to look through it first.

    Asks at a terminal, unless `yes`; without a terminal it stops with the spec written, and says the command to go on
    (what was typed, with the spec). Under `dry_run` nothing is written or asked.
    """
    if path.exists() and not dry_run:
        raise UserError(f"{path} exists, perhaps edited: go on with --spec {path}, or delete it")
    made = inspect(src, err)
    text = text_of(made)
    spec = check(yaml_file.parse(text.encode("utf-8", "surrogateescape"), str(path)), str(path))
    if dry_run:
        return spec, str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    click.echo(f"spec: {path} (the classes and their names are there to be edited)", err=err)
    if yes:
        return spec, str(path)
    typed = sys.argv[sys.argv.index("folder") :]
    later = f"look through it, then: {shlex.join(['python', '-m', 'ingest', *typed, '--spec', str(path)])}"
    if not sys.stdin.isatty():
        click.echo(later, err=err)
        return None
    if not click.confirm(f"Ingest by {path} as it is?", err=err):
        click.echo(later, err=err)
        return None
    return spec, str(path)
