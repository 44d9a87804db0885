"""Raw files by glob: what the wildcards stand for, letter case, and what is no file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from ingest.errors import UserError
from ingest.sources.trees import Tree, glob_regex


def tree(folder: Path, *names: str) -> Tree:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"-")
    return Tree(folder)


@pytest.mark.parametrize(
    ("glob", "name", "text"),
    [
        ("im/*.jpg", "im/one.jpg", "one"),
        ("im/*.*", "im/one.jpg", "one"),  # the extension is no part of the name
        ("im/*.*", "im/one.v2.jpg", "one.v2"),
        ("im/*", "im/one.jpg", "one"),
        ("im/one*", "im/one.jpg", ""),
        ("im/**", "im/a/one.jpg", "a/one"),
        ("**/*.png", "im/a/one.png", "im/a//one"),
        ("im/*.jpg", "im/one.JPG", "one"),  # cameras write .JPG
        ("im/*.{jpg,png}", "im/one.Png", "one"),
        ("im/[a-o]ne_?.png", "im/one_7.png", "o/7"),
        ("im/[!z]ne.png", "im/one.png", "o"),
        ("im/one.png", "im/one.png", "one"),
    ],
)
def test_what_the_wildcards_stand_for(tmp_path: Path, glob: str, name: str, text: str) -> None:
    assert tree(tmp_path, name, "other/thing.txt").match(glob) == {name: text}


def test_letter_case_counts_but_for_the_extension(tmp_path: Path) -> None:
    found = tree(tmp_path, "Images/a.JPG")
    assert found.match("images/*.jpg") == {} and found.match_any_case("images/*.jpg") == ["Images/a.JPG"]


@pytest.mark.parametrize("glob", ["[z-a].png", "im/[z-a]*.png"])
def test_a_glob_that_cannot_be_read_is_named(glob: str) -> None:
    with pytest.raises(UserError, match=r"the glob .*z-a.* cannot be read"):
        glob_regex(glob)


@pytest.mark.parametrize("glob", ["a[", "a{", "a]b", "(", "a+b", "a\\d.png", "[[]*.png", "[\\d].png"])
def test_other_marks_stand_for_themselves(glob: str) -> None:
    assert glob_regex(glob).fullmatch(glob) or glob.startswith("[")
    assert not glob_regex(glob).fullmatch("a5.png")


def test_pipes_devices_and_dangling_links_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nowhere")
    found = Tree(tmp_path)
    for name, words in (("pipe.png", "pipe or a device"), ("zero.png", "pipe or a device"), ("gone.png", "No such")):
        with pytest.raises(UserError, match=rf"{name}.*{words}"):
            found.source(name)


# --- one name, two Unicode forms ---

COMPOSED, APART = "caf\u00e9", "cafe\u0301"  # as most systems write it, and as macOS does


def test_names_pair_though_their_accents_are_written_apart(tmp_path: Path) -> None:
    found = tree(tmp_path, f"images/{APART}.jpg", f"masks/{COMPOSED}.png")
    assert found.match("images/*.jpg") == {f"images/{COMPOSED}.jpg": COMPOSED}
    assert found.match(f"images/{APART}.*") == {f"images/{COMPOSED}.jpg": COMPOSED}
    assert found.source(f"images/{COMPOSED}.jpg").path.endswith(f"{APART}.jpg")


def test_members_of_archives_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as held:
        held.writestr(f"images/{APART}.txt", APART)
    found = Tree(tmp_path)
    assert found.names == [f"mac.zip/images/{COMPOSED}.txt"]
    assert found.source(found.names[0]).name == found.names[0]
    assert found.text(found.names[0]) == COMPOSED


def test_both_forms_side_by_side_stay_two_files(tmp_path: Path) -> None:
    found = tree(tmp_path, f"{APART}.png", f"{COMPOSED}.png", "other.png")
    assert sorted(found.names) == sorted([f"{APART}.png", f"{COMPOSED}.png", "other.png"])
