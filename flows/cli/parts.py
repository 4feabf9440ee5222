"""Verbs that list the parts a plan can name, and start a new one. Heavy imports inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import app

_TEMPLATES = Path(__file__).parent / "templates"
_USED = {  # where the part stands in a plan
    "scorer": '[quality]\nscorers = [{{ use = "{use}" }}]\ngate = {{ {name}_min = 0.5 }}',
    "recipe": '[[datagen.recipe]]\nuse = "{use}"\nprompts = "prompts.jsonl"',
    "tuner": '[train]\ntuner = {{ use = "{use}" }}',
    "benchmark": '[evaluate]\nbenchmarks = [{{ use = "{use}" }}]',
}
_CHECKED = {  # how the test of a new part calls what ships for it
    "scorer": ("quality.conformance import check_scorer", "check_scorer({part})"),
    "recipe": ("datagen.conformance import check_recipe", "check_recipe({part}, tmp_path)"),
    "tuner": (
        "train.conformance import check_tuner, make_tiny",
        'check_tuner({part}, make_tiny(tmp_path / "base"), tmp_path)',
    ),
    "benchmark": (
        "quality.conformance import check_benchmark",
        "check_benchmark({part}, tmp_path)",
    ),
}
_TEST = '''"""Check that the {kind} {name} does what every {kind} has to do."""

from pathlib import Path

from {imported}
from warehouse.catalog import build


def test_{name}(tmp_path):
{prepared}    part = build("{kind}", {table}, Path(__file__).parent)
    {checked}
'''


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
    for one in [kind] if kind else catalog.KINDS:
        print(one)
        for name in catalog.names(one):
            print(f"  {name:<14} {catalog.summary(one, name)}")
            print(f"  {'':<14} options: {', '.join(catalog.option_names(one, name)) or 'none'}")
        for name, point in installed(one).items():
            try:
                print(f"  {name:<14} {catalog.summary(one, name)} (from {package_of(point)})")
                options = ", ".join(catalog.option_names(one, name)) or "none"
                print(f"  {'':<14} options: {options}")
            except PlanError as error:  # a package that is broken hides no other part
                print(f"  {name:<14} cannot be used: {str(error).splitlines()[0]}")


def _print_part(kind: str, use: str) -> None:
    from warehouse import catalog
    from warehouse.part_sources import origin_of_class

    cls = catalog.part_class(kind, use)
    print(catalog.summary(kind, use))
    for option, default, meaning in catalog.options(kind, use):
        print(f"  {option} = {default}\n      {meaning}")
    origin = origin_of_class(cls)
    labels = getattr(cls, "labels", ())
    if labels:
        name = origin.name if origin else use
        print(f"  labels that a gate may bound, as {name}.<label>_min: {', '.join(labels)}")
    if origin:
        print(f"  from {origin.package or origin.file} (sha256 {origin.sha256[:16]})")


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="scorer, recipe, tuner or benchmark.")],
    name: Annotated[str, typer.Argument(help="Its name: letters, digits and underscore.")],
) -> None:
    """Write a part of your own to start from, NAME.py, and its test beside it."""
    from warehouse import catalog
    from warehouse.errors import UsageError

    _require_kind(kind, list(_USED))
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
    print(_USED[kind].format(use=f"./{part}", name=name))


def render_part(kind: str, name: str) -> str:
    """A whole working part of this name."""
    text = (_TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8")
    return text.replace(f"My{kind.capitalize()}", "".join(w.capitalize() for w in name.split("_")))


def render_test(kind: str, name: str) -> str:
    """A test that holds a part of this name to what every one of its kind does."""
    table, prepared = f'"./{name}.py"', ""
    if kind == "recipe":
        table = f'{{"use": "./{name}.py", "prompts": "prompts.jsonl"}}'
        rows = '{"prompt": "What colour is the sky?"}'
        prepared = f"    (tmp_path / \"prompts.jsonl\").write_text('{rows}\\n')\n"
    imported, checked = _CHECKED[kind]
    return _TEST.format(
        kind=kind,
        name=name,
        imported=imported,
        table=table,
        prepared=prepared,
        checked=checked.format(part="part"),
    )


def _require_kind(kind: str, allowed: list[str]) -> None:
    from warehouse.catalog import did_you_mean
    from warehouse.errors import PlanError

    if kind not in allowed:
        raise PlanError(f"unknown kind of part '{kind}' ({did_you_mean(kind, sorted(allowed))})")
