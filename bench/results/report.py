"""bench.loader's table: medians, ratios, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.setting import Setting
from bench.loaders import ROWS
from bench.measuring.fresh import Facts
from bench.results.plots import Bar, Chart

# Ratios of a row's speed to another's, for `bench.measuring.fresh.summarize`.
RATIOS = {"share_of_limit": "decode", "times_opencv": "opencv"}
_NO_CROP = ("read", "decode")  # rows that make no crops


def render(table: Mapping[str, Facts], setting: Setting) -> str:
    """The table for a terminal."""
    megapixels = setting.augment.crop[0] * setting.augment.crop[1] / 1e6
    width = max(len(ROWS[row].title) for row in table)
    gpu = any("gpu_mb" in facts for facts in table.values())
    head = f"{'':<{width}}  images/s  spread     MP/s  of limit  x opencv  CPU ms/image  peak MB"
    lines = [head + ("  GPU MB" if gpu else "")]
    for row, facts in table.items():
        speed = facts["images_per_second"]
        cells = [
            f"{ROWS[row].title:<{width}}",
            f"{speed:8.1f}",
            f"{facts['spread'] / speed:6.0%}",
            f"{'-':>7}" if row in _NO_CROP else f"{speed * megapixels:7.1f}",
            _ratio(facts.get("share_of_limit")),
            _ratio(facts.get("times_opencv")),
            f"{1000 * facts['cpu_seconds_per_image']:12.2f}",
            f"{facts['peak_mb']:7.0f}",
        ]
        lines.append("  ".join(cells) + (f"  {facts.get('gpu_mb', 0):6.0f}" if gpu else ""))
    return "\n".join(lines)


def costs(table: Mapping[str, Facts]) -> str:
    """What each augmentation costs, of the rows that leave one out or add one; empty when there are none."""
    if "ours" not in table:
        return ""
    cpu = table["ours"]["cpu_seconds_per_image"]
    parts = [
        f"{row.removeprefix(prefix)} {1000 * sign * (facts['cpu_seconds_per_image'] - cpu):+.2f}"
        for prefix, sign in (("ours-no-", -1), ("ours-with-", 1))
        for row, facts in table.items()
        if row.startswith(prefix)
    ]
    return f"CPU ms an image of each augmentation (augment: all of them): {', '.join(parts)}." if parts else ""


def chart(title: str, table: Mapping[str, Facts]) -> Chart:
    """The bars of a table, without `read`, whose bar would dwarf the others."""
    bars = [
        Bar(
            ROWS[row].title,
            facts["images_per_second"],
            facts["low"],
            facts["high"],
            f"x {facts['times_opencv']:.1f}" if "times_opencv" in facts else "",
            ours=row == "ours",
        )
        for row, facts in table.items()
        if row != "read" or len(table) == 1
    ]
    note = "; x: times the torch DataLoader + OpenCV" if "opencv" in table else ""
    return Chart(title, f"images/s, median and range of the repeats{note}", bars)


def _ratio(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:8.2f}"
