"""Plan an imitation study: the broad questions, the gate that both kinds of data share, the teacher."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from datagen.recipe import PromptRecipe, Recipe
from distill.plan.plan import Plan
from distill.plan.sections import QualitySection
from warehouse.catalog import build, name_of
from warehouse.errors import PlanError
from warehouse.inputs import assets

FEWEST_SEEDS = 3
"""Below so many training seeds their spread is unknown."""
_LOOKED_AT = 1000
"""Broad questions among which a passage or a reference is looked for."""


def check_seeds(seeds: int) -> int:
    """The number of training seeds.

    Raises:
        PlanError: fewer than three.
    """
    if seeds < FEWEST_SEEDS:
        raise PlanError(
            f"--seeds {seeds}: takes {FEWEST_SEEDS} or more, since one seed alone does not tell what "
            "another would change"
        )
    return seeds


def broad_plan(
    plan: Plan, source: str, rows: int | None = None, examples: int | None = None
) -> Plan:
    """The plan with other questions, asked as its first recipe asks; the rest is the same.

    Args:
        plan: The plan.
        source: A data set's name or a file.
        rows: At most so many questions.
        examples: Worked examples before each; left out, as many as the plan's first recipe
            shows where the questions have references, else none.

    Raises:
        DataError, PlanError: the questions could not be downloaded, or are those of the plan.
    """
    if any(getattr(recipe, "prompts", None) == source for recipe in plan.datagen.recipe):
        raise PlanError(
            f"--broad {source} is what the plan asks already; name other questions, a data set "
            f"({', '.join(assets.names('data'))}) or a file"
        )
    first = plan.datagen.recipe[0]
    options: dict[str, Any] = {"use": "imitation", "prompts": source, "limit": rows}
    options = {key: value for key, value in options.items() if value is not None}
    kept = ("instruction", "max_answer_words", "language")
    shared = {name: value for name in kept if (value := getattr(first, name, None)) is not None}
    recipe: Recipe = build("recipe", options | shared)
    has_references = "reference" in _present(
        plan, recipe
    )  # reads it: a missing file is told at once
    if examples is None:
        examples = getattr(first, "examples", 0) if has_references else 0
    if examples and not has_references:
        raise PlanError(
            f"--examples {examples}: the questions of {source} have no references to show as worked "
            "examples; add a column 'reference', or leave the option out"
        )
    recipe = build("recipe", options | shared | {"examples": examples})
    datagen = plan.datagen.model_copy(update={"recipe": [recipe]})
    return _copy(plan, datagen=datagen)


def share_gate(task: Plan, broad: Plan) -> tuple[Plan, Plan, list[str]]:
    """Both plans with one gate: the task's, without bounds that the broad questions cannot meet.

    A scorer that needs a passage abstains on a question without one, and the gate would keep
    nothing. Bounds of the plan's first recipe hold for all data.

    Returns:
        Both plans, and the scorers that were left out.
    """
    present = _present(task, broad.datagen.recipe[0])
    gate = task.quality.gate
    missing = [
        name_of(scorer)
        for scorer in task.quality.scorers
        if scorer.needs
        and scorer.needs not in present
        and not gate.keeps_abstained(name_of(scorer))
    ]
    bounds = {
        key: bound
        for key, bound in gate.bounds(name_of(task.datagen.recipe[0])).items()
        if key.rpartition("_")[0].partition(".")[0] not in missing
    }
    ranked = gate.rank_by in missing
    quality = task.quality.model_copy(
        update={
            "scorers": [s for s in task.quality.scorers if name_of(s) not in missing],
            "gate": gate.model_copy(
                update={
                    "thresholds": bounds,
                    "recipe": {},
                    **({"rank_by": None, "top_k": None} if ranked else {}),
                }
            ),
        }
    )
    shared: QualitySection = quality
    return _copy(task, quality=shared), _copy(broad, quality=shared), missing


def with_teacher(plan: Plan, teacher: Any) -> Plan:
    """The plan with another teacher.

    Raises:
        PlanError: its price is unknown and the plan has a budget in USD.
    """
    other = _copy(plan, teacher=teacher)
    other.require("study imitation")
    return other


def named_teacher(plan: Plan, name: str) -> Any | None:
    """The teacher of a name: an endpoint of the plan, a model asset or a GGUF file.

    Returns:
        None where it is neither; then it may be a folder or a hub id.

    Raises:
        PlanError: a GGUF file is not there.
    """
    if name in plan.evaluate.endpoints:
        return plan.evaluate.endpoints[name]
    if name in assets.names("model"):
        return build("teacher", {"use": "local_gguf", "model": name})
    if name.endswith(".gguf"):
        file = plan.folder / Path(name).expanduser()
        if not file.is_file():
            raise PlanError(
                f"--teacher {name}: there is no such file; give the path of a .gguf file"
            )
        return build("teacher", {"use": "local_gguf", "model": str(file.resolve())})
    return None


def is_same_model(teacher: Any, base: str, fingerprint: str) -> bool:
    """Whether teacher and base are the same model: the same weights, or the same name.

    Args:
        teacher: A teacher.
        base: The base as a plan names it.
        fingerprint: Of the base's weights (`train.model.base_model.base_fingerprint`).
    """
    if teacher.identity.partition(":")[2] == fingerprint:
        return True
    return _short(str(getattr(teacher, "model", ""))) == _short(base)


def _short(model: str) -> str:
    """A model's name without its owner, its folder and its form."""
    return (
        model.rstrip("/").rpartition("/")[2].casefold().removesuffix(".gguf").removesuffix("-gguf")
    )


def _present(plan: Plan, recipe: Recipe) -> set[str]:
    """What the first questions of a recipe come with: passage, reference."""
    if not isinstance(recipe, PromptRecipe):
        return set()  # not known before anything is asked
    prompts = list(islice(recipe.ask_all(plan.folder), _LOOKED_AT))
    return {name for name in ("passage", "reference") if any(getattr(p, name) for p in prompts)}


def _copy(plan: Plan, **update: Any) -> Plan:
    other = plan.model_copy(update=update)
    other._folder, other._file = plan.folder, plan._file
    return other
