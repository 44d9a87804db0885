"""What was ingested, as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.errors import one_line
from ingest.plan import PlannedShard
from ingest.shards.manifest import Manifest, Split
from ingest.shards.wording import count, human_bytes, share
from ingest.sources.raw import RawDataset


def summary(facts: Manifest, expected: Mapping[str, int]) -> str:
    """A line a split, then warnings: an official count that is not met, classes that never occur."""
    rows = [["split", "samples", "shards", "size", "labels", "classes seen", "ignored", "skipped"]]
    notes = []
    for name, split in facts.splits.items():
        seen = sum(1 for pixels in split.class_pixels if pixels)
        labeled = sum(split.class_pixels) + split.ignored_pixels
        rows.append(
            [
                name,
                f"{split.samples:,}",
                str(len(split.shards)),
                human_bytes(sum(shard.bytes for shard in split.shards)),
                f"{split.samples:,}" if split.labeled else "none",
                f"{seen} of {facts.num_classes}" if split.labeled else "-",
                share(split.ignored_pixels, labeled),
                str(len(split.skipped)),
            ]
        )
        if name in expected and expected[name] != split.samples:
            difference = split.samples - expected[name]
            notes.append(
                f"warning: {name} has {count(split.samples, 'sample')}, officially {expected[name]:,} ({difference:+,})"
            )
        if split.unmatched_pixels:
            notes.append(
                f"note: {count(split.unmatched_pixels, 'pixel')} of {name} "
                f"({share(split.unmatched_pixels, labeled)}) had a color too far from every class's, and are ignored"
            )
        if split.skipped:
            notes.append(_skipped(name, split))
        if split.labeled and seen < facts.num_classes:
            missing = [cls for cls, pixels in zip(facts.classes, split.class_pixels, strict=True) if not pixels]
            notes.append(f"note: {name} never shows {_some(missing)}")
    kept = facts.options.get("image_format") == "keep" and facts.channels == 3  # others are arrays, whatever they were
    if kept and any(_large_pngs(split) for split in facts.splits.values()):
        notes.append(
            "note: large PNGs as published are slow to read: --image-format png packs them anew, without loss, "
            "to be read in a fifth of the time; jpeg:95 takes a quarter of the room too"
        )
    return "\n".join([table(rows), *notes])


def _skipped(name: str, split: Split) -> str:
    """What --skip-bad left out of a split: the first few with their reasons; all of them are in dataset.json."""
    told = Counter(one.reason if one.file in one.reason else f"{one.file} ({one.reason})" for one in split.skipped)
    first = dict(list(told.items())[:3])
    shown = "; ".join(text if number == 1 else f"{text} [{number:,} tiles of it]" for text, number in first.items())
    rest = len(split.skipped) - sum(first.values())
    more = f"; {rest:,} more, listed in dataset.json" if rest else ""
    what = "file" if len(told) == len(split.skipped) else "tile"
    return one_line(f"warning: {count(len(split.skipped), what)} of {name} left out: {shown}{more}")


def _large_pngs(split: Split) -> bool:
    """Whether a split holds images of over a megapixel at over half a byte a pixel: JPEGs take a quarter."""
    height, width = split.image_size.get("median", [0, 0])
    return height * width > 1e6 and sum(shard.bytes for shard in split.shards) > 0.5 * split.samples * height * width


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right; a rule below the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def as_dict(facts: Manifest, expected: Mapping[str, int], out: str) -> dict[str, Any]:
    """The summary for programs."""
    return {
        "name": facts.name,
        "out": out,
        "classes": facts.num_classes,
        "splits": {
            name: {
                "samples": split.samples,
                "expected": expected.get(name),
                "labeled": split.labeled,
                "shards": len(split.shards),
                "bytes": sum(shard.bytes for shard in split.shards),
                "skipped": [vars(skipped) for skipped in split.skipped],
            }
            for name, split in facts.splits.items()
        },
    }


def found(raw: RawDataset, shards: Sequence[PlannedShard]) -> dict[str, Any]:
    """What a dry run reports: counts and bytes of the source files, per split."""
    return {
        name: {
            "images": len(pairs) + len(raw.skipped.get(name, [])),
            "labels": sum(pair.label is not None for pair in pairs),
            "missing": len(raw.skipped.get(name, [])),
            "bytes": sum(source.size for pair in pairs for source in (pair.image, pair.label) if source),
            "shards": sum(shard.split == name for shard in shards),
            "expected": raw.expected.get(name),
        }
        for name, pairs in raw.splits.items()
    }


def found_table(found: dict[str, Any]) -> str:
    """The same for people."""
    rows = [["split", "images", "labels", "missing", "source", "shards", "official"]]
    for name, split in found.items():
        official = f"{split['expected']:,}" if split["expected"] else "-"
        counts = [f"{split[key]:,}" for key in ("images", "labels", "missing")]
        rows.append([name, *counts, human_bytes(split["bytes"]), str(split["shards"]), official])
    return table(rows)
