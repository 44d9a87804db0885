"""bench.loader's table: medians, ratios, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.setting import Setting
from bench.loaders import ROWS
from bench.measuring.fresh import Numbers
from bench.results.plots import Bar, Chart
from bench.results.table import aligned, ratio

# Ratios of a row's speed to another's, for `bench.measuring.fresh.summarize`.
RATIOS = {"share_of_limit": "decode", "times_opencv": "opencv"}
_NO_CROP = ("read", "decode")  # rows that make no crops


def render(table: Mapping[str, Numbers], setting: Setting) -> str:
    """The table for a terminal."""
    megapixels = setting.augment.crop[0] * setting.augment.crop[1] / 1e6
    gpu = any("gpu_mb" in facts for facts in table.values())
    heads = ["", "images/s", "spread", "MP/s", "of limit", "x opencv", "CPU ms/image", "peak MB"]
    rows = [
        [
            ROWS[row].title,
            f"{facts['images_per_second']:.1f}",
            f"{facts['spread'] / facts['images_per_second']:.0%}",
            "-" if row in _NO_CROP else f"{facts['images_per_second'] * megapixels:.1f}",
            ratio(facts.get("share_of_limit")),
            ratio(facts.get("times_opencv")),
            f"{1000 * facts['cpu_seconds_per_image']:.2f}",
            f"{facts['peak_mb']:.0f}",
            *([f"{facts.get('gpu_mb', 0):.0f}"] if gpu else []),
        ]
        for row, facts in table.items()
    ]
    return aligned([*heads, "GPU MB"] if gpu else heads, rows)


def costs(table: Mapping[str, Numbers]) -> str:
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


def chart(title: str, table: Mapping[str, Numbers]) -> Chart:
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
