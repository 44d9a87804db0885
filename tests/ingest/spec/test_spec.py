"""dataset.yaml: names as written, what masks hold, another dataset's classes, pixels; each mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import UserError, one_line
from ingest.spec.schema import load_spec

SPLITS = "splits: {t: {images: x}}"


def load(tmp_path: Path, text: str | bytes):
    path = tmp_path / "s.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_spec(str(path))


def test_names_are_as_written(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "name: 007\nclasses: [yes, no, 1.0, ~, null, 01, on]\nids: {0: yes, 1: no, 2: ~, 3: 01}\n"
        "splits: {off: {images: x}}",
    )
    assert spec.classes == ["yes", "no", "1.0", "~", "null", "01", "on"]
    assert (spec.name, list(spec.splits)) == ("007", ["off"])
    assert {value: train for value, train in spec.labels.ids.items() if value < 9} == {0: 0, 1: 1, 2: 3, 3: 5}


def test_ids_may_give_255_a_class(tmp_path: Path) -> None:
    spec = load(tmp_path, f"{{name: s, classes: [bg, object], ids: {{0: bg, 255: object}}, {SPLITS}}}")
    assert spec.labels.ids == {0: 0, 255: 1} and spec.said_values


def test_another_datasets_classes_by_name(tmp_path: Path) -> None:
    text = "{name: s, classes: [road, car], from: [sky, road, auto, bus, mud], "
    spec = load(tmp_path, text + f"names: {{auto: car, bus: car}}, others: ignore, {SPLITS}}}")
    assert spec.labels.ids == {0: 255, 1: 0, 2: 1, 3: 1, 4: 255, 255: 255}
    spec = load(
        tmp_path, f"{{name: s, classes: [road, rest], from: camvid, names: {{pavement: road}}, others: rest, {SPLITS}}}"
    )
    assert [spec.labels.ids[value] for value in (0, 3, 4, 11, 255)] == [1, 0, 0, 255, 255]
    with pytest.raises(UserError, match=r"2 classes .*'sky', 'mud'.*others: ignore"):
        load(tmp_path, text + f"names: {{auto: car, bus: car}}, {SPLITS}}}")


def test_another_spec_beside_with_colors(tmp_path: Path) -> None:
    other = "{name: o, classes: [sky, street], colors: {sky: [0, 0, 9], street: [9, 0, 0], ignore: [0, 0, 0]}, "
    (tmp_path / "other.yaml").write_text(other + SPLITS + "}")
    text = f"{{name: s, classes: [road, sky], from: other.yaml, names: {{street: road}}, {SPLITS}}}"
    assert load(tmp_path, text).labels.colors == {(0, 0, 9): 1, (9, 0, 0): 0, (0, 0, 0): 255}
    (tmp_path / "other.yaml").write_text(f"{{name: o, classes: [a, b], from: s.yaml, {SPLITS}}}")
    with pytest.raises(UserError, match="leads back to itself"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"name: caf\xe9\nclasses: [a]", ["line 1", "UTF-8"]),  # Latin-1
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["binary file"]),
        ("a: !!bool z", ["line 1", "tag"]),
        ("a: !!timestamp x", ["tag"]),
        ("a: !!int x", ["tag"]),
        ("a: " + "9" * 5000, ["line 1", "no value"]),
        ("[" * 5000, ["not YAML"]),
        ("a: &x [*x]", ["deeper"]),
        ("a: [b", ["not YAML", "line"]),
        ("name: s\nname: t", ["line 2", "twice"]),
        ("a: !!python/object/apply:os.system [x]", ["tag"]),
        ("\n".join(["a: &a [1]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '*a'] * 9)}]" for n in range(9)]),
         ["more values"]),
        (f"{{name: s, classes: [a, ''], {SPLITS}}}", ["is no name"]),
        (f'{{name: s, classes: [a, "b\\nc"], {SPLITS}}}', ["is no name"]),
        (f"{{name: s, classes: [a, b], range: [0, {'9' * 400}], {SPLITS}}}", ["range", "number"]),
        (f"{{name: s, classes: [a, b], range: [.nan, 1], {SPLITS}}}", ["range", "number"]),
        (f"{{name: s, classes: [a, b], range: [5, 5], {SPLITS}}}", ["low below high"]),
        (f"{{name: s, classes: [a, b], bands: true, {SPLITS}}}", ["bands"]),
        (f"{{name: s, classes: [a, b], bands: [true], {SPLITS}}}", ["bands"]),
        (f"{{name: s, classes: [a, b], bands: [], {SPLITS}}}", ["bands", "1 first"]),
        (f"{{name: s, classes: [a, b], variable: [x], {SPLITS}}}", ["variable", "one matrix"]),
        (f"{{name: s, classes: [a, b], bands: [0], {SPLITS}}}", ["bands", "1 first"]),
        (f"{{name: s, classes: [a, b], bands: {list(range(1, 18))}, {SPLITS}}}", ["16"]),
        (f"{{name: s, classes: [a, b], range: [0, 1], percentiles: [2, 98], {SPLITS}}}", ["twice"]),
        (f"{{name: s, classes: [a, b], percentiles: [98, 2], {SPLITS}}}", ["percentiles", "0..100"]),
        (f"{{name: s, classes: [a, b], tolerance: 9, {SPLITS}}}", ["tolerance", "colors"]),
        (f"{{name: s, classes: [a, b], colors: {{a: [1, 2, 3]}}, tolerance: lots, {SPLITS}}}", ["tolerance"]),
        (f"{{name: s, classes: [a, b], names: {{x: a}}, {SPLITS}}}", ["names", "from"]),
        (f"{{name: s, classes: [a, b], from: [a, c], names: {{d: a}}, {SPLITS}}}", ["no class 'd'"]),
        (f"{{name: s, classes: [a, b], from: nowhere, {SPLITS}}}", ["nowhere", "no such file"]),
        ("{name: s, classes: [a, b], splits: {" + "x" * 250 + ": {images: x}}}", ["split name", "60"]),
        ("{name: s, classes: [a, b], splits: {a: 0.5, b: 0.4}, images: x}", ["add up to 1"]),
        ("{name: s, classes: [a, b], splits: {a: 0.5, b: 0.5}}", ["globs at the top"]),
        ("{name: s, classes: [a, b], splits: {a: 1, group: '('}, images: x}", ["regular expression"]),
        ("{name: s, classes: [a, b], splits: {a: 1, seed: z}, images: x}", ["seed"]),
        ("{name: s, classes: [a, b], splits: {t: {images: [x]}}}", ["glob"]),
        ("{name: s, classes: [a, b], splits: {t: {labels: x}}}", ["no 'images'"]),
        ("- a", ["must be a mapping"]),
        ("", ["must be a mapping"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_that_names_them(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    message = one_line(str(error.value))
    assert len(message) < 1000
    for word in ["s.yaml", *words]:
        assert word in message


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "nope", "/", "."])
def test_specs_that_are_not_there(name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_spec(name)


def test_a_latin_1_spec_from_the_command_line(raw: Path, tmp_path: Path, quick) -> None:
    (raw / "dataset.yaml").write_bytes((raw / "dataset.yaml").read_bytes() + "# caf\xe9".encode("latin-1"))
    result = quick("folder", raw, "--spec", raw / "dataset.yaml", "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "UTF-8" in result.stderr
    result = quick("folder", raw, "--spec", next((raw / "img/train").iterdir()), "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "binary" in result.stderr
