"""`python -m nets`: what there is to build, how big, how much work, from which paper."""

from __future__ import annotations

import functools
import inspect
import re
import sys

import click

from nets.errors import NetError
from nets.measure import measure
from nets.registry import BUILDERS, build, list_nets, options


@click.command(help="Lists the nets, or, with NAME, shows one net's options and parts.")
@click.argument("name", required=False)
@click.option("--size", type=click.IntRange(1), default=512, show_default=True, help="Image side, pixels.")
@click.option("--classes", type=click.IntRange(1), default=21, show_default=True, help="Number of classes.")
@click.option("--backbone", help="A timm encoder instead of the net's own (with NAME).")
def main(name: str | None, size: int, classes: int, backbone: str | None) -> None:
    if name is None:
        if backbone is not None:
            raise click.UsageError("--backbone goes with a net's NAME: python -m nets unet --backbone resnet34")
        _table(size, classes)
    else:
        _details(name, size, classes, backbone)


def _table(size: int, classes: int) -> None:
    click.echo(f"{'net':<15}{'encoder':<12}{'params M':>9}{'GMACs':>9}  paper")
    for name in list_nets():
        total, _ = measure(functools.partial(build, name, classes), size)
        encoder = options(name).get("backbone") or "its own"
        click.echo(f"{name:<15}{encoder:<12}{total.parameters / 1e6:>9.2f}{total.macs / 1e9:>9.1f}  {_paper(name)}")
    click.echo(
        f"\nat {classes} classes and {size}x{size}, in eval mode; MACs are half of torch's FlopCounterMode count"
    )
    click.echo("options and parts of one: python -m nets NAME")


def _details(name: str, size: int, classes: int, backbone: str | None) -> None:
    known = options(name)  # the first to refuse an unknown name
    total, parts = measure(functools.partial(build, name, classes, backbone=backbone), size)
    click.echo(f"{name}: {_paper(name)}\n\n{inspect.getdoc(BUILDERS[name])}\n")
    click.echo("options: " + ", ".join(f"{option}={value!r}" for option, value in known.items()) + "\n")
    click.echo(f"{'part':<15}{'params M':>10}{'GMACs':>9}")
    for part, cost in [*parts.items(), ("all", total)]:
        click.echo(f"{part:<15}{cost.parameters / 1e6:>10.3f}{cost.macs / 1e9:>9.2f}")
    click.echo(
        f"\nat {classes} classes and {size}x{size}, in eval mode; MACs are half of torch's FlopCounterMode count"
    )


def _paper(name: str) -> str:
    """The first line of the docstring of the net's own file names its paper."""
    module = sys.modules[BUILDERS[name].__module__]
    first = (module.__doc__ or "").splitlines()[0]
    found = re.match(r"(.*\))", first)  # up to the reference's closing bracket
    return found[1] if found else first


if __name__ == "__main__":
    try:
        main(prog_name="python -m nets")
    except NetError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
