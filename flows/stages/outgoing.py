"""List what a plan would send, where, and what it reads and runs here, before any of it happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.teacher import Teacher
from distill.plan.plan import Plan
from flows.stages.estimate import held_out_requests
from train.model.base_model import HUB_ID
from warehouse.catalog import name_of
from warehouse.inputs import assets
from warehouse.inputs.hub_rows import is_hub
from warehouse.part_origins import origin_of
from warehouse.part_sources import is_file
from warehouse.secrets import mask
from warehouse.wording import format_count


def outgoing_lines(plan: Plan) -> list[str]:
    """Lines for `distill check`: code that runs, files and variables that are read, what is sent."""
    prompts = sum(1 for recipe in plan.prompt_recipes for _ in recipe.ask_all(plan.folder))
    lines = [
        *(f"runs      {code}" for code in _code(plan)),
        f"reads     {', '.join([*_files(plan), *_variables(plan)]) or 'nothing but the plan'}",
    ]
    items = sum(1 for _ in held_out_requests(plan, "teacher", plan.teacher))
    asked = [f"what recipe '{name_of(recipe)}' asks" for recipe in _unknown_beforehand(plan)]
    if prompts or not asked:
        asked.insert(0, format_count(prompts, "prompt"))
    what = [*asked, *([format_count(items, "held-out item")] * bool(items))]
    lines += _sent(" and ".join(what), "the teacher", plan.teacher)
    for who, model in (("teacher", plan.teacher), ("judge", plan.judge)):
        scorers = [name_of(scorer) for scorer in plan.quality.scorers if scorer.asks == who]
        if scorers:
            texts = f"{' and '.join(asked)} with their replies, for {', '.join(scorers)},"
            lines += _sent(texts, f"the {who}", model)
    for name, endpoint in plan.evaluate.endpoints.items():
        number = sum(1 for _ in held_out_requests(plan, name, endpoint))
        lines += _sent(format_count(number, "held-out item"), f"endpoint '{name}'", endpoint)
    base = plan.train.base if plan.train else ""
    is_here = base in assets.names("model") or (plan.folder / base).is_dir()
    if HUB_ID.fullmatch(base) and not is_here:
        lines.append(f"sends     the name of base '{base}' to its hub, to download it")
    named = dict.fromkeys(text for text in _texts(plan.as_json()["datagen"]) if is_hub(text))
    lines += [f"sends     the name of data set '{name}' to its hub, to stream it" for name in named]
    return lines


def _unknown_beforehand(plan: Plan) -> list[Any]:
    """Recipes whose requests are not known before anything is asked, and that ask something."""
    return [
        recipe
        for recipe in plan.datagen.recipe
        if recipe not in plan.prompt_recipes and recipe.calls_expected[1] > 0
    ]


def _sent(what: str, who: str, model: Teacher) -> list[str]:
    urls = getattr(model, "urls", None)
    named = getattr(model, "model", None)
    label = f"{who} ({named})" if isinstance(named, str) else who
    if urls:
        return [f"sends     {what} to {mask(url)}: {label}" for url in urls]
    if origin_of(model):
        return [f"sends     {what} wherever the code of {name_of(model)} sends it: {label}"]
    return [f"sends     {what} to no other machine: {label}, {name_of(model)}"]


def _models(plan: Plan) -> list[Any]:
    return [plan.teacher, plan.judge, *plan.evaluate.endpoints.values()]


def _variables(plan: Plan) -> list[str]:
    """The environment variables that the plan names, and those of known servers."""
    names = [name for model in _models(plan) for name in getattr(model, "variables", [])]
    return [f"${name}" for name in dict.fromkeys(names)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _files(plan: Plan) -> list[str]:
    """The files of data that the plan names, as it names them."""
    documents = [
        pattern
        for recipe in plan.datagen.recipe
        for source in recipe.document_sources()
        for pattern in source.patterns
    ]
    named = {key: value for key, value in plan.as_json().items() if key != "warehouse"}
    texts = dict.fromkeys(text for text in _texts(named) if 0 < len(text) < 1024)
    files = [
        text
        for text in texts
        if "\0" not in text and _is_data(plan.folder / Path(text).expanduser())
    ]
    return list(dict.fromkeys([*files, *documents]))


def _is_data(path: Path) -> bool:
    try:
        return path.is_file() and not is_file(path.name)
    except OSError:  # a text that no file system takes as a name
        return False


def _code(plan: Plan) -> list[str]:
    """Parts that are not of this package: their code has every right that you have."""
    parts = [
        *_models(plan), *plan.datagen.recipe, *plan.quality.scorers,
        *plan.evaluate.every_benchmark, *plan.evaluate.contexts,
        *([plan.train.tuner, plan.train.objective] if plan.train else []),
    ]  # fmt: skip
    origins = [origin for part in parts if (origin := origin_of(part))]
    return list(
        dict.fromkeys(f"{origin.package or origin.file} for {origin.name}" for origin in origins)
    )
