"""The shipped recipes beside the published ones that they stand for: `python -m train recipes --published`.

What is published stands in published.yaml, as facts with their source; ours is read from the recipes themselves, so
that the page (docs/recipes.md) cannot say what a recipe does not do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from train import config
from train.config import Recipe

FILE = Path(__file__).parent / "published.yaml"
_INTRODUCTION = """# Recipes

Made by `python -m train recipes --published` from the recipes and `train/published.yaml`. Scores are mIoU in %, of the
validation split and a single scale unless said otherwise; what segrail itself has trained stands on the page
[Parity](parity.md), with how each score came about.

Where both columns say the same, the published one is `=`. What is published of the papers is what they state."""


@dataclass(frozen=True)
class Published:
    """What a recipe stands for."""

    source: str
    score: str
    settings: dict[str, str] = field(default_factory=dict)
    """Setting -> as published."""
    rest: str = "not given here"
    """What is shown for other settings: "=" where they were compared and are the same."""
    why: list[str] = field(default_factory=list)
    """Of the differences."""


def load() -> dict[str, Published]:
    """Recipe -> what it stands for."""
    return {name: Published(**entry) for name, entry in yaml.safe_load(FILE.read_text())["recipes"].items()}


def settings(recipe: Recipe) -> dict[str, str]:
    """Our side of the table, in the page's order."""
    net, data, schedule = recipe.net, recipe.data, recipe.schedule
    start = "ImageNet" if net.pretrained else "from scratch"
    length = f"{recipe.train.steps:,} steps" if recipe.train.steps else f"{recipe.train.epochs:g} epochs"
    warm_up = f", warm-up over {schedule.warmup_steps} steps" if schedule.warmup_steps else ""
    end = f" to {_number(recipe.optimizer.lr * schedule.min_factor)}" if schedule.name == "poly" else ""
    power = f" {schedule.power:g}" if schedule.name == "poly" else ""
    size = f"{data.val_side} side {data.val_size}" if data.val_size else ""
    return {
        "encoder": f"{net.backbone or 'its own'}, {start}",
        "head": _head(recipe),
        "crop": f"{recipe.augment.crop[0]}x{recipe.augment.crop[1]}",
        "augment": _augment(recipe),
        "batch": str(data.batch_size),
        "optimizer": _optimizer(recipe),
        "weight decay": _decay(recipe),
        "schedule": f"{schedule.name}{power}{end}{warm_up}",
        "length": length,
        "loss": _loss(recipe),
        "norms": "synchronized" if recipe.train.sync_bn else "of each rank",
        "test": "whole image" + (f", {size}" if size else ""),
    }


def markdown() -> str:
    """The page: an overview, then a table a recipe."""
    published = load()
    loaded = {name: config.load(name) for name in config.shipped()}
    parts = [_INTRODUCTION, "| recipe | stands for | published |\n|---|---|---|"]
    parts[-1] += "".join(f"\n| [{name}](#{name}) | {one.source} | {one.score} |" for name, one in published.items())
    for name, one in published.items():
        rows = ["| setting | segrail | published |\n|---|---|---|"]
        ours = settings(loaded[name])
        for key in [*ours, *(key for key in one.settings if key not in ours)]:
            mine, theirs = ours.get(key, "-"), one.settings.get(key, one.rest if one.settings else "-")
            rows.append(f"| {key} | {mine} | {'=' if theirs == mine else theirs} |")
        parts += [f"## {name}", f"Stands for: {one.source}. Published: {one.score}.", "\n".join(rows)]
        if one.why:
            parts.append("\n".join(f"- {text}" for text in one.why))
    return "\n\n".join(parts) + "\n"


def _head(recipe: Recipe) -> str:
    net = recipe.net
    parts = [net.name]
    if net.output_stride:
        parts.append(f"stride {net.output_stride}")
    parts += [f"{key} {_plain(value)}" for key, value in net.options.items()]
    if net.aux:
        parts.append(f"auxiliary {recipe.loss.aux_weight:g}")
    return ", ".join(parts)


def _augment(recipe: Recipe) -> str:
    a = recipe.augment
    side = {"longer": "long side", "shorter": "short side", "ratio": "short side"}[a.resize]
    parts = [f"{side} to {a.base_size}" if a.base_size else "own size"]
    if a.scale != (1.0, 1.0):
        parts[0] += f" x U({a.scale[0]:g}, {a.scale[1]:g})"
    if a.resize == "ratio":
        parts.append(f"long within {a.longest} x")
    parts += [f"{key} {value:g}" for key in ("flip", "rotate", "blur") if (value := getattr(a, key))]
    if a.colors:
        parts.append("; ".join(f"{key} {getattr(a, key):g}" for key in a.colors) + f", each {a.color_chance:g}")
    if a.cat_max_ratio < 1:
        parts.append(f"a crop with a class over {a.cat_max_ratio:.0%} is drawn again, up to 10 times")
    return "; ".join(parts)


def _optimizer(recipe: Recipe) -> str:
    o = recipe.optimizer
    text = f"{o.name} {_number(o.lr)}"
    if o.name in ("sgd", "rmsprop"):
        text += f", momentum {o.momentum:g}"
    if o.name in ("adam", "adamw"):
        text += f", betas {o.betas[0]:g}, {o.betas[1]:g}"
    if o.backbone_lr_scale != 1:
        text += f"; encoder x {o.backbone_lr_scale:g}"
    if o.layer_decay != 1:
        text += f", its stages x {o.layer_decay:g} each from the end"
    return text


def _decay(recipe: Recipe) -> str:
    o = recipe.optimizer
    return _number(o.weight_decay) + (" of everything" if o.decay_norm_and_bias else ", not of norms and biases")


def _loss(recipe: Recipe) -> str:
    names = {"ce": "cross-entropy", "dice": "Dice", "focal": "focal", "lovasz": "Lovász"}
    terms = [
        f"{weight:g} {names[term]}" if weight != 1 else names[term] for term, weight in recipe.loss.terms().items()
    ]
    weights = recipe.loss.class_weights
    text = " + ".join(terms) + (f", class weights {_plain(weights)}" if weights != "none" else "")
    over_all = recipe.loss.terms().get("ce") and recipe.loss.ce_mean == "all"
    return text + (" over all pixels of the crop, ignored ones in the divisor" if over_all else "")


def _number(value: float) -> str:
    """0.0005 as 5e-4, 0.01 as 0.01."""
    text = f"{value:.3g}"
    if 0 < value < 0.01:
        mantissa, _, exponent = f"{value:e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
