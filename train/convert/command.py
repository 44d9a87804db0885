"""`python -m train.convert`: reads the config, writes the recipe, and says what did not carry over."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ingest.errors import UserError
from ingest.shards import atomic
from train.convert.translate import convert_config, render


@click.command(short_help="A recipe from a config of pytorch-segmentation.")
@click.argument("config_json", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The recipe to write.  [default: to the terminal]")
def convert(config_json: Path, out: Path | None) -> None:
    """Turn a JSON config of yassouali/pytorch-segmentation into a recipe.

    \b
    python -m train convert config.json --out my.yaml
    python -m train --cfg my.yaml --dry-run

    The recipe says beside each key where it comes from. Keys without equivalent, and those whose meaning differs, are
    listed on stderr and at the recipe's end, with what to use instead; so is what was done there unasked.
    """
    try:
        raw = json.loads(config_json.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{config_json} does not exist: give the config.json that the run was started with") from error
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise UserError(f"{config_json} is no text file: give a config.json") from error
    except json.JSONDecodeError as error:
        hint = "; JSON has no comments: remove them" if "//" in error.doc else ""
        raise UserError(f"{config_json} is not JSON: {error.msg} in line {error.lineno}{hint}") from error
    except RecursionError as error:
        raise UserError(f"{config_json} is no config.json: its brackets are too deep in each other") from error
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: folder {out.parent} does not exist: make it, or name another")
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists: name another file, or remove it")
    draft = convert_config(raw, str(config_json))
    text = render(draft, str(config_json))
    if draft.notes:
        click.echo("without equivalent, or of another meaning here:", err=True)
        for note in draft.notes:
            click.echo(f"  {note}", err=True)
    if draft.fixed:
        click.echo("done there whatever the config said, and otherwise here:", err=True)
        for behavior in draft.fixed:
            click.echo(f"  {behavior}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        atomic.write_text(out, text)
        click.echo(f"{out}: {len(draft.values)} keys; next: python -m train --cfg {out} --dry-run")
