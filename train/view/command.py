"""`python -m train.view`: its options. What they set off is in `train.view.serving`, which needs torch."""

from __future__ import annotations

from importlib import import_module

import click


@click.command(context_settings={"max_content_width": 110})
@click.argument("path", metavar="RUN_OR_CHECKPOINT")
@click.option("--data", help="Shard folder.  [default: the one it was trained on]")
@click.option("--split", default="val", show_default=True, help="Split to look through.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to serve on; others can reach any but this."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any that is free.  [default: 0]")
def command(path: str, data: str | None, split: str, device: str, host: str, port: int) -> None:
    """Serve a page of a split's images, labels, predictions and errors.

    Sort and filter by class, IoU and confusion, zoom all panels together, drop an image in to label it. The page is
    served to this machine alone and opens with the printed link only, which holds a token; it loads nothing from
    anywhere. Needs the `view` extra.
    """
    import_module("train.view.serving").serve(path, data, split, device, (host, port))
