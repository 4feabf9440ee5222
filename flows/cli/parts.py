"""Verbs that list the parts a plan can name, and start a new one. Heavy imports inside."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import app

_TEMPLATES = Path(__file__).parent / "templates"
_PLAN_SNIPPETS = {  # how a plan uses the part
    "scorer": '[quality]\nscorers = [{{ use = "{use}" }}]\ngate = {{ {name}_min = 0.5 }}',
    "recipe": '[[datagen.recipe]]\nuse = "{use}"\nprompts = "prompts.jsonl"',
    "tuner": '[train]\ntuner = {{ use = "{use}" }}',
    "benchmark": '[evaluate]\nbenchmarks = [{{ use = "{use}" }}]',
}


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="teacher, recipe, scorer, ...")] = None,
    name: Annotated[
        str | None,
        typer.Argument(help="One part, by name, package/name or ./file.py: its options."),
    ] = None,
) -> None:
    """List the parts that a plan can name, each with what it does and where it is from."""
    from warehouse import catalog
    from warehouse.errors import PlanError
    from warehouse.part_sources import installed, package_of

    if kind is not None:
        _require_kind(kind, list(catalog.KINDS))
    if kind and name:
        _print_part(kind, name)
        return
    for listed_kind in [kind] if kind else catalog.KINDS:
        print(listed_kind)
        for name in catalog.names(listed_kind):
            print(f"  {name:<14} {catalog.summary(listed_kind, name)}")
            print(
                f"  {'':<14} options: {', '.join(catalog.option_names(listed_kind, name)) or 'none'}"
            )
        for name, point in installed(listed_kind).items():
            try:
                print(
                    f"  {name:<14} {catalog.summary(listed_kind, name)} (from {package_of(point)})"
                )
                options = ", ".join(catalog.option_names(listed_kind, name)) or "none"
                print(f"  {'':<14} options: {options}")
            except PlanError as error:  # a package that is broken hides no other part
                print(f"  {name:<14} cannot be used: {str(error).splitlines()[0]}")


def _print_part(kind: str, use: str) -> None:
    from warehouse import catalog
    from warehouse.part_origins import origin_of_class

    cls = catalog.part_class(kind, use)
    print(catalog.summary(kind, use))
    for option, default, meaning in catalog.options(kind, use):
        print(f"  {option} = {default}\n      {meaning}")
    origin = origin_of_class(cls)
    labels = getattr(cls, "labels", ())
    if labels:
        name = origin.name if origin else use
        print(f"  labels that a gate may bound, as {name}.<label>_min: {', '.join(labels)}")
    if languages := getattr(cls, "languages", ()):
        print(f"  languages of its rules: {', '.join(languages)}")
    if origin:
        where = origin.package or os.path.relpath(origin.file or "")
        print(f"  from {where} (sha256 {origin.sha256[:16]})")


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="scorer, recipe, tuner or benchmark.")],
    name: Annotated[str, typer.Argument(help="Its name: letters, digits and underscore.")],
) -> None:
    """Write a part of your own to start from, NAME.py, and its test beside it."""
    from warehouse import catalog
    from warehouse.errors import UsageError

    _require_kind(kind, list(_PLAN_SNIPPETS))
    name = name.removesuffix(".py")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"'{name}' cannot be a name; use a-z, 0-9 and _, such as my_{kind}")
    if name in catalog.reserved_names(kind):
        raise UsageError(f"'{name}' is the name of another {kind}; choose another name")
    part, test = Path(f"{name}.py"), Path(f"test_{name}.py")
    for file in (part, test):
        if file.exists():
            raise UsageError(f"{file} already exists; choose another name")
    part.write_text(render_part(kind, name), encoding="utf-8")
    test.write_text(render_test(kind, name), encoding="utf-8")
    print(f"wrote {part} and {test} (pytest {test}); to use it, put into the plan:\n")
    print(_PLAN_SNIPPETS[kind].format(use=f"./{part}", name=name))


def render_part(kind: str, name: str) -> str:
    """The source of a complete, working part of this name."""
    return _rendered(f"{kind}.py.txt", kind, name)


def render_test(kind: str, name: str) -> str:
    """The source of a test that runs the conformance checks on a part of this name."""
    return _rendered(f"test_{kind}.py.txt", kind, name)


def _rendered(template: str, kind: str, name: str) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8").replace(f"my_{kind}", name)
    return text.replace(f"My{kind.capitalize()}", "".join(w.capitalize() for w in name.split("_")))


def _require_kind(kind: str, allowed: list[str]) -> None:
    from warehouse.catalog import did_you_mean
    from warehouse.errors import PlanError

    if kind not in allowed:
        raise PlanError(f"unknown kind of part '{kind}' ({did_you_mean(kind, sorted(allowed))})")
