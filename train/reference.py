"""Every key of a recipe with its type, default and meaning, read from the dataclasses that define them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from ingest.errors import UserError, nearest
from train.config import Recipe


@dataclass(frozen=True)
class Key:
    """One key of a recipe."""

    name: str
    """Dotted, such as optimizer.lr."""
    type: str
    """What it takes: the annotation in plain words."""
    default: str
    """As YAML writes it."""
    meaning: str


def sections() -> Iterator[tuple[str, str, list[Key]]]:
    """(name, what it is, its keys) of the recipe's top level (name "") and of each section, in the recipe's order."""
    top = [field for field in dataclasses.fields(Recipe) if _section(field) is None]
    yield "", _first_paragraph(Recipe), _keys(Recipe, "", top)
    for field in dataclasses.fields(Recipe):
        if (kind := _section(field)) is not None:
            yield field.name, _first_paragraph(kind), _keys(kind, f"{field.name}.", dataclasses.fields(kind))


def markdown() -> str:
    """The reference as a page: a heading and a table a section."""
    parts = ["# Recipe keys", "Generated from the code. Every key can be set on the command line: `optimizer.lr=0.02`."]
    for name, about, keys in sections():
        parts += [f"## {name or 'Top level'}", about, "| key | type | default | meaning |\n|---|---|---|---|"]
        rows = [
            [f"`{_cell(text)}`" for text in (key.name, key.type, key.default)] + [_cell(key.meaning)] for key in keys
        ]
        parts[-1] += "".join(f"\n| {' | '.join(row)} |" for row in rows)
    return "\n\n".join(parts) + "\n"


def _section(field: dataclasses.Field) -> type | None:
    kind = field.default_factory
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def _keys(kind: type, prefix: str, fields: Any) -> list[Key]:
    types, meanings = _annotations(kind)
    return [Key(prefix + f.name, types[f.name], _default(f), meanings.get(f.name, "")) for f in fields]


def _annotations(kind: type) -> tuple[dict[str, str], dict[str, str]]:
    """Field -> its annotation, and -> the string that stands below it."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    types, meanings = {}, {}
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            types[node.target.id] = _words(node.annotation)
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                meanings[node.target.id] = " ".join(str(after.value.value).split())
    return types, meanings


def _words(annotation: ast.expr) -> str:
    """`Literal["a", "b"] | None` -> "a, b or null"; other names as they are."""
    if isinstance(annotation, ast.BinOp):
        return f"{_words(annotation.left)} or {_words(annotation.right)}"
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        choices = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        values = [choice.value for choice in choices if isinstance(choice, ast.Constant)]
        return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return "null" if ast.unparse(annotation) == "None" else ast.unparse(annotation)


def _default(field: dataclasses.Field) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return repr(value) if isinstance(value, str) and not value else str(value)


def _first_paragraph(kind: type) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


@click.command(short_help="Every key of a recipe, its default and meaning.")
@click.argument("section", required=False)
def keys(section: str | None) -> None:
    """List every key of a recipe with its default and what it means; or those of one SECTION, such as optimizer."""
    found = {name: keys for name, _, keys in sections()}
    if section is not None and section not in found:
        raise UserError(f"a recipe has no section {section!r}{nearest(section, [name for name in found if name])}")
    for name in [section] if section is not None else found:
        for key in found[name]:
            click.echo(click.style(f"{key.name}: {key.default}", bold=True))
            click.echo(textwrap.indent(textwrap.fill(key.meaning, 110), "    "))
