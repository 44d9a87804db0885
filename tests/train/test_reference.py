"""The reference of recipe keys is made from the dataclasses, and leaves none out."""

from __future__ import annotations

from click.testing import CliRunner

from ingest.errors import UserError
from pipeline import recipe
from train import config, reference


def test_every_key_is_there_with_a_meaning() -> None:
    keys = [key for _, _, found in reference.sections() for key in found]
    assert sorted(key.name for key in keys) == sorted(recipe.dotted_keys(config.Recipe))
    assert [key.name for key in keys if len(key.meaning) < 10] == []
    (lr,) = [key for key in keys if key.name == "optimizer.lr"]
    assert (lr.type, lr.default) == ("float", str(config.Recipe().optimizer.lr))
    types = {key.name: key.type for key in keys}
    assert types["net.backbone"] == "str or null" and types["net.freeze_bn"] == "false, true, all"


def test_the_page_has_a_table_a_section() -> None:
    page = reference.markdown()
    assert "## augment" in page and "| `augment.crop` | `tuple[int, int]` | `[380, 380]` |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(recipe.dotted_keys(config.Recipe))
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows), "a bar in a cell would break the table"


def test_the_command_lists_one_section_or_all() -> None:
    one = CliRunner().invoke(reference.keys, ["schedule"])
    assert one.exit_code == 0 and "schedule.power: 0.9" in one.output and "optimizer.lr" not in one.output
    assert "optimizer.lr" in CliRunner().invoke(reference.keys, []).output
    wrong = CliRunner().invoke(reference.keys, ["optimzer"])
    assert isinstance(wrong.exception, UserError) and "did you mean 'optimizer'" in str(wrong.exception)
