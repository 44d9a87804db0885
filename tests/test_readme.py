"""What README.md and docs/ say is true: commands take their flags, recipes parse, make targets and links exist."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location

import click
import pytest
import yaml

from bench import console
from tests.conftest import ROOT
from train import config
from train.__main__ import SUBCOMMANDS

TEXT = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
LINES = sorted(
    {
        line.split("#")[0].strip()
        for text in PAGES.values()
        for line in text.splitlines()
        if re.match(r" {4}(python|torchrun) .*-m ", line)
    }
)


def parse(line: str) -> tuple[str, list[str]]:
    # [--flag a|b] in the text means: may be given, with one of these
    words = shlex.split(re.sub(r"\[(--\S+) ([^|\]]+)[^\]]*\]", r"\1 \2", line))
    at = words.index("-m")
    return words[at + 1], words[at + 2 :]


def find(module: str) -> click.Command:
    """The command of `python -m <module>`."""
    package = import_module(module)
    if hasattr(package, "__path__"):
        package = import_module(f"{module}.__main__")
    return package.main if hasattr(package, "main") else package.command


@pytest.mark.parametrize("line", LINES)
def test_commands_take_what_the_readme_gives_them(line: str) -> None:
    module, arguments = parse(line)
    command = find(module)
    if module == "train" and arguments[0] in SUBCOMMANDS:
        command = getattr(import_module(SUBCOMMANDS[arguments[0]]), arguments.pop(0))
    if isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(click.Context(command), arguments)
        assert found is not None, f"no command {arguments[0]!r}"
        command = found
    # parsed, not run: make_context reports unknown flags, missing and surplus arguments
    context = command.make_context(line, list(arguments))
    for override in context.params.get("overrides", ()):
        assert "=" in override


def test_the_readme_has_its_three_commands() -> None:
    assert {"ingest", "train", "bench.loader"} <= {parse(line)[0] for line in LINES}


def test_the_readme_recipe_parses() -> None:
    blocks = [block for text in PAGES.values() for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    recipes = [yaml.safe_load(block) for block in blocks if "optimizer:" in block]
    assert recipes
    for raw in recipes:
        config.parse(raw)


def test_links_lead_somewhere() -> None:
    dead = [
        f"{path.name}: {link}"
        for path, text in PAGES.items()
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        if not (path.parent / link).exists() and link not in ("commands.md", "recipe_keys.md")  # made when built
    ]
    assert not dead


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= 130


def test_shipped_recipes_named_in_the_readme_exist() -> None:
    named = {name for text in PAGES.values() for name in re.findall(r"--cfg ([a-z]\w+)(?![\w./])", text)} - {"my"}
    assert named and named <= set(config.shipped())


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"^ {4}make ([a-z-]+)", TEXT, re.M))
    assert named and named <= targets


def test_the_command_reference_has_every_command() -> None:
    spec = spec_from_file_location("generate", ROOT / "docs" / "site" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = module_from_spec(spec)
    spec.loader.exec_module(generate)
    listed = {title: (module, attribute) for title, module, attribute in generate.COMMANDS}
    modules = [module for module, _ in console.COMMANDS.values()] + [f"bench.{name}" for name in console.BENCHES]
    wanted = [f"python -m {module}" for module in modules] + [f"python -m train {name}" for name in SUBCOMMANDS]
    assert sorted(listed) == sorted(wanted)
    page = generate.commands()
    assert "## python -m ingest folder" in page and "--json" in page  # sub-commands and options, too
    assert "shards/<dataset>" in page  # which HTML would eat, were it no code


def test_the_site_shows_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f" {path.name}\n" not in nav + "\n"] == []
