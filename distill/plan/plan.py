"""Read a plan file, apply overrides and validate it before anything is spent.

Each room owns the model of its section; this file puts them together. Unknown keys,
unknown parts and wrong types are refused together, each with a hint.
"""

from __future__ import annotations

import difflib
import json
import math
import shlex
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from datagen.recipe import PromptRecipe, Recipe
from distill.plan.schedule_section import ScheduleSection
from distill.plan.sections import (
    DatagenSection,
    EvaluateSection,
    QualitySection,
    RunSection,
    Section,
    ShipSection,
    TrainSection,
    part_of,
)
from quality.gate.policy import GatePolicy
from warehouse import catalog
from warehouse.errors import PlanError
from warehouse.inputs.question_wording import LANGUAGES, Language
from warehouse.records import make_id
from warehouse.secrets import literal_secrets, mask
from warehouse.union_faults import merge_union_faults

BUDGETS_USD = ("budget_usd", "budget_usd_per_day", "budget_usd_per_month")
"""Keys of `[datagen]` that cap what is spent: by one run, and by all runs of the warehouse."""


class Plan(Section):
    """A whole plan. A stage is given its own section, never all of it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Names the runs; letters, digits, dot, dash and underscore."""
    warehouse: str = Field(default="stillhouse.duckdb", min_length=1)
    """The DuckDB file; a relative path starts at the folder of the plan file."""
    language: Language = "en"
    """The words around questions and of the judge: "en" or "zh"; a part's own goes first."""
    teacher: part_of("teacher")  # type: ignore[valid-type]
    """The teacher model."""
    datagen: DatagenSection
    quality: QualitySection = QualitySection()
    train: TrainSection | None = None
    evaluate: EvaluateSection = EvaluateSection()
    run: RunSection = RunSection()
    """Where scoring runs."""
    schedule: ScheduleSection = ScheduleSection()
    """When the plan runs by itself, and what each tick may change."""
    ship: ShipSection | None = None
    """When the student may be promoted."""
    _folder: Path = PrivateAttr(default=Path("."))
    _file: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where relative paths of input files start: the folder of the plan file."""
        return self._folder

    @property
    def warehouse_path(self) -> Path:
        """The warehouse file; runs, students and exports lie beside it.

        A relative path starts at the plan's folder. Earlier it started at the working
        directory: a warehouse that is there, and not yet in the plan's folder, goes on serving.
        """
        here = Path(self.warehouse).expanduser()
        path = (self.folder / here).resolve()
        return path if path.exists() or not here.exists() else here.resolve()

    def command(self, verb: str) -> str:
        """A verb with this plan, as it is typed; PLAN stands where its file is not known."""
        file = "PLAN" if self._file is None else str(self._file)
        return shlex.join(["distill", *verb.split(), file])

    @property
    def plan_hash(self) -> str:
        """Hash of the plan with all defaults filled in; neither a budget nor an engine nor a
        schedule changes it."""
        plain = self.as_json()
        for name in (*BUDGETS_USD, "budget_tokens", "shard", "on_new_calls"):
            del plain["datagen"][name]
        del plain["run"], plain["schedule"]
        if self.language == "en":  # as before there was this key: no run gets another id
            del plain["language"]
        if self.train is not None:
            for name in ("nodes", "rendezvous"):  # where it is trained
                del plain["train"][name]
            if self.train.seeds == 1:
                del plain["train"]["seeds"]
        if self.evaluate.controls:
            del plain["evaluate"]["controls"]
        return make_id("plan", plain)

    def require(self, verb: str) -> None:
        """See that the plan has what a verb needs, before anything is started or spent.

        A tick has the needs of its last stage.

        Raises:
            PlanError: a section is missing; the message says what to add.
        """
        if verb == "tick":
            verb = "run" if self.schedule.stage == "all" else self.schedule.stage
        if verb.split()[0] in ("train", "evaluate", "bakeoff", "study") and self.train is None:
            raise PlanError(
                f"plan '{self.name}' has no [train] section; give it at least base = '...' "
                "(asset, folder or hub id), or use `distill generate`"
            )
        if (
            self.train is not None
            and self.train.objective.needs_logprobs
            and self.datagen.sampling.top_logprobs is None
        ):
            raise PlanError(
                f"train.objective '{catalog.name_of(self.train.objective)}' learns from the teacher's "
                "log-probabilities, and the plan asks for none; set datagen.sampling.top_logprobs = "
                "20 (at most what the server gives), or give the objective a local `teacher`"
            )
        drawn = next((recipe for recipe in self.datagen.recipe if recipe.draws > 1), None)
        if self.datagen.sampling.temperature == 0 and drawn is not None:
            raise PlanError(
                f"recipe '{catalog.name_of(drawn)}' asks the same question {drawn.draws} times, and "
                "datagen.sampling.temperature is 0, so all replies would be the same; set a "
                "temperature, for example 0.8"
            )
        endpoints = self.evaluate.endpoints.items()
        for section, model in (
            ("teacher", self.teacher),
            ("quality.judge", self.judge),
            *((f"evaluate.endpoints.{name}", endpoint) for name, endpoint in endpoints),
        ):
            capped = next((n for n in BUDGETS_USD if getattr(self.datagen, n) is not None), None)
            if capped and model.price is None:
                raise PlanError(
                    f"{capped} = {getattr(self.datagen, capped):g} cannot be enforced: the price of "
                    f"'{model.model}' is not known; give input_usd_per_million and "
                    f"output_usd_per_million in [{section}], or a budget_tokens"
                )
        unscored = {key.rpartition("_")[0].partition(".")[0] for key in self._all_bounds()}
        unscored -= {catalog.name_of(scorer) for scorer in self.quality.scorers}
        if self.quality.gate.rank_by:
            unscored |= {self.quality.gate.rank_by} - {
                catalog.name_of(scorer) for scorer in self.quality.scorers
            }
        if unscored:
            raise PlanError(
                f"quality.gate bounds '{min(unscored)}', which no scorer of the plan gives, so "
                f"nothing would be kept; add {{use = '{min(unscored)}'}} to quality.scorers"
            )
        self._refuse_impossible_bounds()
        if (
            self.ship is not None
            and verb in ("run", "evaluate")
            and not self.evaluate.judges_student
        ):
            raise PlanError(
                "[ship] decides about the student, and evaluate.contestants names none; add 'student'"
            )
        if (
            verb.split()[0] in ("run", "evaluate", "bakeoff", "study")
            and self.train is not None
            and not self.evaluate.benchmarks
        ):
            raise PlanError(
                f"plan '{self.name}' names no benchmark, so there is nothing to evaluate; "
                "add [evaluate] benchmarks, for example [{use = 'sciq'}] or "
                "[{use = 'custom', path = 'held_out.jsonl'}], or run the stages one by one"
            )

    def _refuse_impossible_bounds(self) -> None:
        gate = self.quality.gate
        scales = {catalog.name_of(scorer): scorer.scale for scorer in self.quality.scorers}
        for recipe in (None, *gate.recipe):
            bounds = gate.bounds(recipe)
            where = f"quality.gate.recipe.{recipe}." if recipe else "quality.gate."
            for key, bound in bounds.items():
                scored, _, end = key.rpartition("_")
                scorer = scored.partition(".")[0]
                low, high = scales.get(scorer) or (-math.inf, math.inf)
                if not low <= bound <= high:
                    nothing = (bound > high) == (end == "min")
                    raise PlanError(
                        f"{where}{key} = {bound:g} would {'keep' if nothing else 'drop'} nothing: "
                        f"scores of '{scorer}' are from {low:g} to {high:g}; give a bound among them"
                    )
                least = bounds.get(f"{scored}_min", -math.inf)
                if end == "max" and least > bound:
                    raise PlanError(
                        f"{where}{key} = {bound:g} is below {scored}_min = {least:g}, so nothing "
                        "would be kept; lower the one or raise the other"
                    )

    def _all_bounds(self) -> set[str]:
        gate = self.quality.gate
        return {key for recipe in (None, *gate.recipe) for key in gate.bounds(recipe)}

    @property
    def prompt_recipes(self) -> list[PromptRecipe]:
        """The recipes whose prompts are known before anything is asked."""
        return [recipe for recipe in self.datagen.recipe if isinstance(recipe, PromptRecipe)]

    @property
    def shown_recipe(self) -> Recipe:
        """The recipe whose context the teacher is shown with held-out questions: the first that asks
        given questions, or else the first."""
        recipes: list[Recipe] = [*self.prompt_recipes, *self.datagen.recipe]
        return recipes[0]

    @property
    def teacher_context(self) -> str:
        """The context of the contestant `teacher`: its recipe's, where that asks given questions."""
        return "recipe" if self.prompt_recipes else "plain"

    @property
    def gate_policy(self) -> GatePolicy:
        """The gate's options; with `datagen.on_length = "keep"` it keeps truncated samples."""
        gate = self.quality.gate
        if self.datagen.on_length == "keep":
            gate = gate.model_copy(update={"keep_truncated": True})
        return gate

    @property
    def judge(self) -> Any:
        """The judge model: the plan's own, or the teacher."""
        return self.quality.judge or self.teacher

    @property
    def training(self) -> TrainSection:
        """The `[train]` section, with a base folder resolved relative to the plan."""
        if self.train is None:
            raise PlanError(f"plan '{self.name}' has no [train] section")
        folder = self.folder / Path(self.train.base).expanduser()
        return (
            self.train.model_copy(update={"base": str(folder)}) if folder.is_dir() else self.train
        )

    def as_json(self) -> dict[str, Any]:
        """The plan with all defaults filled in, as JSON-able values."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain


def load_plan(path: str | Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a plan file, apply `a.b=value` overrides, check everything.

    Raises:
        PlanError: the file cannot be read or used; `.faults` lists every fault.
    """
    file = Path(path)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"no plan file at {file}; `distill init` writes one") from None
    except IsADirectoryError:
        plans = sorted(str(path) for path in file.glob("*.toml"))
        hint = f"plans in it: {', '.join(plans)}" if plans else "no .toml file is in it"
        raise PlanError(f"{file} is a folder; name a plan file ({hint})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{file} is not TOML: {error}") from None
    for override in overrides:
        _override(data, override)
    if faults := literal_secrets(data):
        raise PlanError(f"{file} cannot be used", tuple(faults))
    scope = catalog.PlanScope(file.resolve().parent)
    if data.get("language") in LANGUAGES:
        scope.language = data["language"]
    try:
        plan = Plan.model_validate_json(json.dumps(data, default=str), strict=True, context=scope)
    except ValidationError as error:
        faults = [
            line
            for fault in merge_union_faults(error.errors(), data)
            for line in _fault_lines(fault, scope)
        ]
        raise PlanError(f"{file} cannot be used", (*faults, *_hints(faults, overrides))) from None
    plan._folder = scope.folder
    plan._file = file
    return plan


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise PlanError(f"--set takes key.path=value, not '{mask(text)}'")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()  # a bare word is a text
    node: Any = data
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(node, list):
            if not step.isdigit() or int(step) >= len(node):
                raise PlanError(f"--set {key}: '{step}' is not an index of a list of {len(node)}")
            index: Any = int(step)
        elif isinstance(node, dict):
            index = step
        else:
            raise PlanError(f"--set {key}: '{step}' is below a plain value")
        if following is None:
            node[index] = value
        else:
            node = node.setdefault(index, {}) if isinstance(node, dict) else node[index]


def _hints(faults: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Hints where `--set PART.use=NAME` left the options of the previous part."""
    hints = []
    for override in overrides:
        key, _, name = override.partition("=")
        part, dot, last = key.strip().rpartition(".")
        bare = name.strip().strip("'\"")
        if (dot, last) != (".", "use"):
            continue
        if any(
            fault.startswith(f"{part}.") and ": unknown option of " in fault for fault in faults
        ):
            hints.append(
                f"{part}: the options of the previous part are still set; to use another "
                f"with its defaults: --set {part}={bare}"
            )
    return hints


def _fault_lines(fault: Any, scope: catalog.PlanScope) -> list[str]:
    where = ".".join(str(step) for step in fault["loc"]) or "plan"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _keys_at(fault["loc"][:-1], scope)
        word = str(fault["loc"][-1])
        near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed)}"
        return [f"{where}: unknown key ({hint})"]
    if fault["type"] == "part":
        inner = fault["ctx"]["faults"]
        return [f"{where}.{line}" for line in inner] or [f"{where}: {fault['ctx']['message']}"]
    if fault["type"] == "missing":
        return [f"{where}: missing, and there is no default"]
    value = fault.get("input")
    suffix = f", not {value!r}" if isinstance(value, (str, int, float, bool)) else ""
    return [f"{where}: {fault['msg'].removeprefix('Value error, ')}{suffix}"]


def _keys_at(steps: Sequence[int | str], scope: catalog.PlanScope) -> list[str]:
    node: Any = Plan
    for step in steps:
        if isinstance(step, str):
            hints = typing.get_type_hints(node)
            node = _model_in(hints.get(step))
    if node is GatePolicy:
        return GatePolicy.allowed_keys(scope)
    if isinstance(node, type) and issubclass(node, BaseModel):
        return sorted(node.model_fields)
    return sorted(typing.get_type_hints(node)) if node is not None else []


def _model_in(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next((arg for arg in typing.get_args(hint) if arg is not type(None)), None)
    return hint
