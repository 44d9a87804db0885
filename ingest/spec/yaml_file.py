"""A spec file's YAML as plain values: names stay as they are written, and every fault is the file's, in one line.

YAML makes `yes` a truth value, `1.0` a number and `~` nothing. Where a spec holds a name (of a class, a split), its
text is taken instead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ingest.errors import UserError, brief, message

# Where names stand: paths of keys, "*" for any. A mapping's keys are names where "<key>" ends the path.
_NAMES = {
    ("name",),
    ("classes", "*"),
    ("from",),
    ("from", "*"),
    ("others",),
    ("ids", "*"),
    ("names", "<key>"),
    ("names", "*"),
    ("colors", "<key>"),
    ("splits", "<key>"),
    ("labels", "<key>"),
    ("labels", "background"),
    ("labels", "others"),
    ("labels", "attribute"),
    *((("labels", key, "*")) for key in ("ignore", "omit", "names", "map")),
    *((("labels", key)) for key in ("ignore", "omit")),
    ("labels", "map", "<key>"),
}
_MOST_LETTERS = 10_000_000
_MOST_VALUES = 100_000
_DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """Numbers, truth values and nothing; no dates, which no spec holds."""

    values = 0  # so far: references to references multiply


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> Any:
    """The file's content. Raises UserError naming the file, and the line where there is one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    return parse(data, str(path))


def parse(data: bytes, path: str) -> Any:
    """The same for its bytes."""
    if b"\0" in data[:4096] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} is a binary file: a spec is a text file in YAML; ingest/specs/camvid.yaml is one")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: byte {data[error.start]:#x} is no UTF-8 text: save the spec with the encoding UTF-8"
        ) from error
    if len(text) > _MOST_LETTERS:
        raise UserError(f"{path} has {len(text):,} letters, the limit for a spec is {_MOST_LETTERS:,}")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _value(loader, node, (), path)
        finally:
            loader.dispose()
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path} is not YAML{where}: {error.problem or error.context}") from error
    except Exception as error:  # of any kind: RecursionError of a thousand brackets, ValueError of 5,000 digits
        reason = message(error)
        raise UserError(f"{path} is not YAML that a spec can hold ({reason})") from error


def _value(loader: _Loader, node: yaml.Node, at: tuple[str, ...], path: str) -> Any:
    """A node as a plain value. UserError on tags, keys that are there twice, and structures without an end."""
    line = node.start_mark.line + 1
    loader.values += 1
    if len(at) > _DEEPEST or loader.values > _MOST_VALUES:
        raise UserError(f"{path}, line {line}: deeper or more values than any spec has")
    if not re.fullmatch(r"tag:yaml\.org,2002:(str|int|float|bool|null|seq|map)", node.tag) or _tagged(node):
        raise UserError(f"{path}, line {line}: the tag {node.tag!r} has no meaning in a spec: leave it out")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, one, (*at, "*"), path) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node, (*at, "<key>"), path)
            if key in found:
                raise UserError(f"{path}, line {key_node.start_mark.line + 1}: {key!r} is there twice: keep one")
            found[key] = _value(loader, value_node, (*at, str(key)), path)
        return found
    return _scalar(loader, node, at, path)


def _scalar(loader: _Loader, node: yaml.Node, at: tuple[str, ...], path: str) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{path}, line {node.start_mark.line + 1}: a key must be a name or a number")
    if at in _NAMES or (at[:-1] and (*at[:-1], "*") in _NAMES and at[-1] != "<key>"):
        return str(node.value)
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}, line {node.start_mark.line + 1}: {node.value[:40]!r} is no value ({brief(str(error))})"
        ) from error


def _tagged(node: yaml.Node) -> bool:
    """Whether a scalar's tag was written out, as in `!!int x`: a spec has no use for that."""
    if not isinstance(node, yaml.ScalarNode):
        return False
    plain = node.style is None
    implied = _Loader("").resolve(yaml.ScalarNode, node.value, (plain, not plain))
    return bool(node.tag != implied)
