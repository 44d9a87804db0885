"""`python -m ingest`: raw datasets in, shards out. Heavy imports wait until a command needs them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ingest.errors import UserError, run
from ingest.options import Common, ingest_options
from ingest.shards import atomic
from ingest.shards.wording import count

_SCENES = "Write procedural street scenes in a dataset's raw layout."


class _Commands(click.Group):
    """Loads `scenes` (a package of its own) only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, "scenes"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "scenes":
            return click.Command("scenes", short_help=_SCENES)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] == "scenes":
            return "scenes", import_module("ingest.scenes").command, args[1:]
        return super().resolve_command(ctx, args)


class _Shards(click.ParamType[Path]):
    """A shard folder; a URL is staged into the local cache."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from ingest.shards.remote import urls

        return urls.stage(value) if urls.is_url(value) else Path(value)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Turn a raw segmentation dataset into shards for training, check them, look at them.

    \b
    A dataset of your own:   python -m ingest folder SRC
    Official datasets:       python -m ingest voc|cityscapes|ade20k|cocostuff SRC
    No data at hand:         python -m ingest scenes raw --layout folder
    Then:                    python -m ingest show shards/<name> --out sheet.png
    """


@main.command(short_help="A folder of images and labels of your own.")
@click.option("--spec", help="A dataset.yaml, or the name of a shipped one (camvid).  [default: look, and write one]")
@click.option("--yes", is_flag=True, help="Without --spec: go on with the spec as it was written.")
@ingest_options
def folder(common: Common, spec: str | None, yes: bool) -> None:
    """Ingest a folder of images and their masks or annotation files, described by a spec.

    Without --spec it looks, says what it concludes, writes the spec beside the output folder (OUT.yaml) for editing,
    and asks before it goes on; where there is no one to ask, it stops there. ingest/specs/camvid.yaml is a commented
    example of a spec.
    """
    from ingest.datasets import folder as adapter
    from ingest.inspect import command

    if spec is None:
        drafted = command.drafted(common.src, common.spec_path(), yes, common.dry_run, err=common.as_json)
        if drafted is None:
            return
        loaded, spec = drafted
    else:
        loaded = adapter.load_spec(spec)
    common.check_out(loaded.name)
    raw = adapter.find(common.src, loaded, common.splits, common.skip_bad)
    common.ingest(raw, ["folder", str(common.src), "--spec", spec])


@main.command(short_help="Look at a folder, and draft its spec.")
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the spec there instead of printing it.")
def inspect(src: Path, out: Path | None) -> None:
    """Look at a folder: which files are images and labels, how they pair, what the labels hold. Drafts a spec."""
    from ingest.inspect import command
    from ingest.inspect.text import text

    made = command.inspect(src)
    if out is None:
        click.echo("\n" + text(made), nl=False)
    elif out.exists():
        raise UserError(f"{out} exists: give another --out, or delete it first")
    else:
        atomic.write_text(out, text(made))
        click.echo(f"spec: {out}")


@main.command(short_help="PASCAL VOC 2012, with or without its augmented training set.")
@click.option("--labels", type=click.Choice(["voc", "aug", "sbd"]), help="Masks of train_aug: PNGs or SBD's .mat.")
@ingest_options
def voc(common: Common, labels: str | None) -> None:
    """Ingest PASCAL VOC 2012: SRC is VOC2012, VOCdevkit, a folder above, or that of the archives.

    Splits: train, val, test; with --labels aug or sbd train_aug instead of train; trainval on demand.
    """
    from ingest.datasets import voc as adapter

    common.check_out(adapter.NAME if labels in (None, "voc") else f"{adapter.NAME}_aug")
    raw = adapter.find(common.src, common.splits, labels, common.skip_bad)
    common.ingest(raw, ["voc", str(common.src), *(["--labels", labels] if labels else [])])


@main.command(short_help="Cityscapes, fine or coarse, 19 classes.")
@click.option("--labels", type=click.Choice(["fine", "coarse"]), help="[default: fine where there are any]")
@ingest_options
def cityscapes(common: Common, labels: str | None) -> None:
    """Ingest Cityscapes: SRC is a merged root, the unpacked zips side by side, or the folder of the zips."""
    from ingest.datasets import cityscapes as adapter

    common.check_out(adapter.NAME if labels != "coarse" else f"{adapter.NAME}_coarse")
    raw = adapter.find(common.src, common.splits, labels, common.skip_bad)
    common.ingest(raw, ["cityscapes", str(common.src), "--labels", raw.options["labels"]])


@main.command(short_help="ADE20K scene parsing, 150 classes.")
@ingest_options
def ade20k(common: Common) -> None:
    """Ingest ADE20K's SceneParsing set: SRC holds ADEChallengeData2016, unpacked or as the zip."""
    from ingest.datasets import ade20k as adapter

    common.check_out(adapter.NAME)
    common.ingest(adapter.find(common.src, common.splits, common.skip_bad), ["ade20k", str(common.src)])


@main.command(short_help="COCO-Stuff 164k or 10k, 171 or 182 classes.")
@click.option("--version", type=click.Choice(["164k", "10k"]), help="[default: whichever is there]")
@click.option(
    "--classes", type=click.Choice(["171", "182"]), default="171", help="171 leaves out ids that never occur.  [171]"
)
@ingest_options
def cocostuff(common: Common, version: str | None, classes: str) -> None:
    """Ingest COCO-Stuff: SRC holds train2017, val2017 and their masks (164k) or images and .mat files (10k)."""
    from ingest.datasets import cocostuff as adapter

    common.check_out(adapter.NAME if version != "10k" else f"{adapter.NAME}10k")
    raw = adapter.find(common.src, common.splits, version, int(classes), common.skip_bad)
    common.ingest(raw, ["cocostuff", str(common.src), "--version", raw.options["version"], "--classes", classes])


@main.command()
@click.argument("folder", type=_Shards(), metavar="DIR_OR_URL")
@click.option("--deep", is_flag=True, help="Decode every sample again too, and count its pixels.")
def verify(folder: Path, deep: bool) -> None:
    """Check every byte of a shard folder against its dataset.json."""
    from ingest.shards.wording import count
    from ingest.verify import verify as check

    facts = check(folder, deep)
    shards = sum(len(split.shards) for split in facts.splits.values())
    samples = sum(split.samples for split in facts.splits.values())
    are = "is" if shards == 1 else "are"
    edited = "; dataset.json is as signed after an edit (reindex --edited)" if facts.edited else ""
    click.echo(
        f"{folder}: {count(shards, 'shard')} with {count(samples, 'sample')} {are} whole and as ingested{edited}"
    )


@main.command(short_help="Make a shard folder's records and indexes anew, from its tars.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--edited", is_flag=True, help="dataset.json was changed on purpose: take it, and sign it.")
def reindex(folder: Path, edited: bool) -> None:
    """Bring a shard folder of an earlier version up to date, or mend its indexes. The tars stay as they are."""
    from ingest.reindex import reindex as make_anew

    facts = make_anew(folder, edited)
    samples = sum(split.samples for split in facts.splits.values())
    click.echo(f"{folder}: {count(samples, 'sample')} indexed in schema {facts.schema}; the tars are as they were")


@main.command(short_help="Draw a contact sheet: images and labels in colors.")
@click.argument("folder", type=_Shards(), metavar="DIR_OR_URL")
@click.option("--split", help="[default: train, or else the first]")
@click.option("-n", "count", type=click.IntRange(1), default=16, show_default=True, help="Samples.")
@click.option("--out", type=click.Path(path_type=Path), default="sheet.png", show_default=True, help="The picture.")
def show(folder: Path, split: str | None, count: int, out: Path) -> None:
    """Draw a contact sheet: images, their labels in colors, a legend."""
    from ingest.shards import pictures
    from ingest.show import sheet

    _check_picture(out, "--out")
    pictures.save(sheet(folder, split or _first_split(folder), count), out)
    click.echo(str(out))


@main.command(short_help="Class shares, image sizes, class weights.")
@click.argument("folder", type=_Shards(), metavar="DIR_OR_URL")
@click.option("--split", help="[default: train, or else the first]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the class shares into this PNG.")
def stats(folder: Path, split: str | None, as_json: bool, plot: Path | None) -> None:
    """Class shares, image sizes, and class weights by frequency and by median frequency."""
    from ingest import stats as statistics
    from ingest.shards import pictures

    if plot is not None:
        _check_picture(plot, "--plot")
    found = statistics.measure(folder, split or _first_split(folder))
    click.echo(statistics.as_json(found) if as_json else statistics.as_table(found))
    if plot is not None:
        pictures.save(statistics.draw(found), plot, "--plot")
        click.echo(str(plot), err=True)


def _first_split(folder: Path) -> str:
    """The split for training, or what there is."""
    from ingest.shards import manifest, summary

    splits = manifest.load(folder).splits
    return summary.training_split(splits) if splits else "train"  # of which the command then says that it is not there


def _check_picture(path: Path, option: str) -> None:
    """UserError, before the work, where no picture can be written."""
    from ingest.shards import pictures

    pictures.check_name(path, option)
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist: make the folder, or give another {option}")


if __name__ == "__main__":
    run(main, "python -m ingest")
