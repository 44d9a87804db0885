"""Whether a checkpoint's facts are of the kinds that the code builds on: another program may have written the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ingest.errors import brief


def fault(state: Mapping[str, Any]) -> str | None:
    """What is wrong with the values of `state` (keys model, config, dataset, step), in a few words; None: nothing."""
    if not isinstance(state["model"], Mapping) or not isinstance(state["config"], dict):
        return "model and config must be mappings"
    net = state["config"].get("net", {})  # absent in a file from elsewhere: all at their defaults
    if not isinstance(net, dict) or not isinstance(net.get("options", {}), dict):
        return f"config.net = {brief(net)}, expected a mapping, with a mapping of options"
    if not _whole(state["step"], 0):
        return f"step = {brief(state['step'])}, expected a whole number"
    facts = state["dataset"]
    if not isinstance(facts, dict):
        return f"dataset = {brief(facts)}, expected a mapping"
    needed = ("name", "classes", "palette", "mean", "std", "channels")
    if missing := [key for key in needed if key not in facts]:
        return f"dataset holds no {', '.join(missing)}"
    return _fault_of_facts(facts)


def _fault_of_facts(facts: dict[str, Any]) -> str | None:
    channels, classes, palette = facts["channels"], facts["classes"], facts["palette"]
    if not _whole(channels, 1):
        return f"dataset.channels = {brief(channels)}, expected a whole number from 1"
    if not isinstance(facts["name"], str):
        return f"dataset.name = {brief(facts['name'])}, expected text"
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        return f"dataset.classes = {brief(classes)}, expected names"
    if not isinstance(palette, list) or len(palette) != len(classes) or not all(map(_color, palette)):
        return f"dataset.palette = {brief(palette)}, expected a color [red, green, blue] in 0..255 for each class"
    for key in ("mean", "std"):
        if not isinstance(facts[key], list) or len(facts[key]) != channels or not all(map(_share, facts[key])):
            return f"dataset.{key} = {brief(facts[key])}, expected {channels} numbers in 0..1"
    if not isinstance(facts.get("pixels"), dict | None):
        return f"dataset.pixels = {brief(facts['pixels'])}, expected a mapping"
    ids = facts.get("raw_ids")
    if ids is not None and (
        not isinstance(ids, list) or len(ids) != len(classes) or not all(_whole(i, 0) for i in ids)
    ):
        return f"dataset.raw_ids = {brief(ids)}, expected a whole number for each class"
    return None


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_whole(part, 0) and part <= 255 for part in value)
