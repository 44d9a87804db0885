"""docs/recipes.md: made of the recipes and of published.yaml, and never behind them."""

from __future__ import annotations

from click.testing import CliRunner

from tests.conftest import ROOT
from train import config, published
from train.commands import recipes


def test_every_recipe_says_what_it_stands_for() -> None:
    found = published.load()
    assert set(found) == set(config.shipped())
    for name, one in found.items():
        assert one.source and one.score, name
        known = published.settings(config.load(name))
        assert set(one.settings) <= {*known, "train"}, name
        # A published score is a number and says where settings of its run differ from ours.
        assert one.score == "-" or (float(one.score.split()[0]) < 100 and one.settings and one.why), name


def test_the_page_is_that_of_the_code() -> None:
    result = CliRunner().invoke(recipes, ["--published"])
    assert result.exit_code == 0
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert page == result.output, "python -m train recipes --published > docs/recipes.md"


def test_our_side_is_read_from_the_recipe() -> None:
    ours = published.settings(config.load("ade20k_upernet_convnext", ["optimizer.lr=0.0003", "train.steps=7"]))
    assert ours["optimizer"] == "adamw 3e-4, betas 0.9, 0.999; encoder x 0.81, its stages x 0.9 each from the end"
    assert ours["length"] == "7 steps" and ours["weight decay"] == "0.05, not of norms and biases"
    assert ours["schedule"] == "poly 1 to 0, warm-up over 1500 steps"
