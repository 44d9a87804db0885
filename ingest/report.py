"""What was ingested, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.manifest import Manifest


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
                f"{100 * split.ignored_pixels / labeled:.1f}%" if labeled else "-",
                str(len(split.skipped)),
            ]
        )
        if name in expected and expected[name] != split.samples:
            difference = split.samples - expected[name]
            notes.append(
                f"warning: {name} has {split.samples:,} samples, officially {expected[name]:,} ({difference:+,})"
            )
        if split.labeled and seen < facts.num_classes:
            missing = [cls for cls, pixels in zip(facts.classes, split.class_pixels, strict=True) if not pixels]
            notes.append(f"note: {name} never shows {_some(missing)}")
    return "\n".join([table(rows), *notes])


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


def human_bytes(count: float) -> str:
    """1234567 -> '1.2 MB' (decimal units, as --shard-size)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
