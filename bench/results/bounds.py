"""What a loader is bounded by, in a sentence, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping

Numbers = Mapping[str, float]

# Below this share of the given threads' time the loader waits more than a lively machine explains.
BUSY = 0.75
# Of the decode limit: above it, only cheaper decoding would help a GPU loader.
NEAR = 0.85
_ADVICE = {
    "read": "put the shards on a faster disk",
    "decode": "store images that decode faster (`ingest --image-format png` or `jpeg:95`, `--max-side`)",
    "warp": "use a smaller crop, or leave out an augmentation (`--rows all` shows what each costs)",
    "hand-over": "use larger batches",
}


def sentence(table: Mapping[str, Numbers], threads: int, device: str) -> str:
    """Says which of read, decode, warp and hand-over bounds the row `ours`.

    table: medians by row, as `bench.rows.loader.measure` names them; needs `ours`, and uses `read` and `decode`.
    """
    if "ours" not in table:
        return ""
    ours = table["ours"]
    speed = ours["images_per_second"]
    read = table.get("read")
    if read and read["images_per_second"] < 1.25 * speed:
        share = speed / read["images_per_second"]
        return f"Bounded by read: {share:.0%} of what copying the files alone gives. To go faster: {_ADVICE['read']}."
    return _gpu(table, speed) if device == "gpu" else _cpu(ours, read, threads)


def _cpu(ours: Numbers, read: Numbers | None, threads: int) -> str:
    stages = {
        "read": ours["read_seconds"],
        "decode": ours["decode_seconds"],
        "warp": ours["warp_seconds"],
        "hand-over": ours["rest_seconds"],
    }
    if read and not stages["read"]:  # pages are touched inside the decoder: the share is that of the row alone
        stages["read"] = min(read["cpu_seconds_per_image"], stages["decode"])
        stages["decode"] -= stages["read"]
    total = sum(stages.values()) or 1.0
    split = ", ".join(f"{name} {1000 * spent:.2f} ({spent / total:.0%})" for name, spent in stages.items())
    busy = ours["busy_cores"] / threads
    working = f"{threads} threads are" if threads > 1 else "thread is"
    if busy < BUSY:
        return (
            f"Bounded by hand-over: the {working} busy for {busy:.0%} of the time and wait otherwise, for "
            f"each other or because the machine does other work too. CPU ms an image: {split}."
        )
    worst = max(stages, key=lambda name: stages[name])
    return (
        f"Bounded by {worst}: the {working} busy for {busy:.0%} of the time; CPU ms an image: {split}. "
        f"To go faster: {_ADVICE[worst]}."
    )


def _gpu(table: Mapping[str, Numbers], speed: float) -> str:
    if "decode" not in table:
        return ""
    share = speed / table["decode"]["images_per_second"]
    if share >= NEAR:
        return f"Bounded by decode: {share:.0%} of what decoding alone gives. To go faster: {_ADVICE['decode']}."
    return (
        f"Bounded by warp and hand-over: {share:.0%} of what decoding alone gives; they take the other "
        f"{1 - share:.0%}. To go faster: {_ADVICE['warp']}."
    )
