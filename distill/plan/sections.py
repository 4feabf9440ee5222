"""Define the sections of a plan, their keys, and which of them go together.

Each room owns the options of its parts; these models put them side by side.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from datagen.teacher import Sampling
from distill.contestants.contestant import (
    CONTROLS,
    OWN_CONTESTANTS,
    ContestantSpec,
    parse_contestant,
)
from distill.evaluation.ship_conditions import parse
from quality.gate.decontaminate import Decontaminate
from quality.gate.policy import Duplicates, GatePolicy
from train.config import SftConfig
from warehouse import catalog
from warehouse.errors import PlanError
from warehouse.processors import usable_processors


def _build(kind: str, table: Any, info: ValidationInfo) -> Any:
    scope: catalog.PlanScope = info.context or catalog.PlanScope(catalog.HERE)
    try:
        return scope.build(kind, table)
    except PlanError as error:
        raise PydanticCustomError(
            "part", "{message}", {"message": error.message, "faults": error.faults}
        ) from None


def part_of(kind: str) -> Any:
    """The type of a field that holds a part; `distill.plan.schema` says what one looks like."""
    return Annotated[
        Any,
        PlainValidator(partial(_build, kind)),
        PlainSerializer(catalog.table_of),
        WithJsonSchema({"part": kind}),
    ]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class DatagenSection(Section):
    """`[datagen]`: recipes, sampling and budget."""

    recipe: list[part_of("recipe")] = Field(min_length=1)  # type: ignore[valid-type]
    """Recipes, each a `[[datagen.recipe]]` table."""
    sampling: Sampling = Sampling()
    """How replies are drawn."""
    shard: int = Field(default=4096, ge=1)
    """Prompts per Prefect task."""
    on_length: Literal["drop", "keep", "retry"] = "drop"
    """What becomes of a reply that reached max_tokens; `retry` asks once more, with a larger limit."""
    retry_max_tokens: int | None = Field(default=None, ge=1)
    """The limit of a retry; left out, four times max_tokens."""
    on_new_calls: Literal["stop", "ask"] = "stop"
    """What happens where a finished seed wants a call that it did not make then: its recipe has a
    hidden input, such as chance or the time, and each run would pay again. `ask` pays."""
    budget_usd: float | None = Field(default=None, ge=0)
    """Most that one run may spend, in USD, also over several starts; it then stops, and can go on."""
    budget_usd_per_day: float | None = Field(default=None, ge=0)
    """Most that all runs of the warehouse together may spend in a day, in USD."""
    budget_usd_per_month: float | None = Field(default=None, ge=0)
    """Most that all runs of the warehouse together may spend in a calendar month, in USD."""
    budget_tokens: int | None = Field(default=None, ge=0)
    """Most tokens that one run may use, prompts and replies together."""

    @model_validator(mode="after")
    def _retry_is_larger(self) -> DatagenSection:
        if self.retry_max_tokens is not None and self.retry_max_tokens <= self.sampling.max_tokens:
            raise ValueError("retry_max_tokens is above sampling.max_tokens")
        return self

    @model_validator(mode="after")
    def _ends_are_positive(self) -> DatagenSection:
        for number, recipe in enumerate(self.recipe):
            for name in ("target", "max_calls"):
                value = getattr(recipe, name, None)
                if value is not None and value < 1:
                    raise ValueError(
                        f"recipe.{number}.{name} is 1 or more, not {value}; leave it out for no end"
                    )
        return self

    @property
    def longest(self) -> int | None:
        """The limit of a retry, where there is one."""
        if self.on_length != "retry":
            return None
        return self.retry_max_tokens or 4 * self.sampling.max_tokens


class QualitySection(Section):
    """`[quality]`: scorers, judge and gate."""

    scorers: list[part_of("scorer")] = []  # type: ignore[valid-type]
    """Scorers, in the order they run; each name once."""
    gate: GatePolicy = GatePolicy()
    """What is kept; see `quality.gate.choose`."""
    duplicates: Duplicates = Duplicates()
    """What counts as a duplicate."""
    decontaminate: Decontaminate = Decontaminate()
    """What counts as a held-out item, beside an equal question or passage, which always does."""
    judge: part_of("teacher") | None = None  # type: ignore[valid-type]
    """The model that judges for a scorer; left out, the teacher."""

    @model_validator(mode="after")
    def _each_scorer_once(self) -> QualitySection:
        used = [catalog.name_of(scorer) for scorer in self.scorers]
        twice = sorted({name for name in used if used.count(name) > 1})
        if twice:
            raise ValueError(f"duplicate scorer '{twice[0]}': a bound could not tell them apart")
        return self


class TrainSection(SftConfig):
    """`[train]`: base, tuner, objective and the trainer's options."""

    base: str
    """The student's base model: an asset's name, a local folder or a hub id."""
    tuner: part_of("tuner") = Field(  # type: ignore[valid-type]
        default_factory=lambda: catalog.build("tuner", {"use": "lora"})
    )
    """The parameter-efficient method."""
    objective: part_of("objective") = Field(  # type: ignore[valid-type]
        default_factory=lambda: catalog.build("objective", {"use": "sequence"})
    )
    """What the student is trained on."""
    seeds: int = Field(default=1, ge=1)
    """Students of the same rows, trained one after the other with seed, seed + 1, ...; the first is
    the plan's own, and scores are means over all, with intervals that cover the seeds, too."""

    @property
    def of_each_seed(self) -> list[TrainSection]:
        """This section with each of its seeds, the plan's own first."""
        return [
            self.model_copy(update={"seed": seed, "seeds": 1})
            for seed in range(self.seed, self.seed + self.seeds)
        ]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> TrainSection:
        if faults := self.faults():
            raise ValueError("; ".join(faults))
        return self

    def faults(self) -> list[str]:
        """Why tuner, objective and options do not go together, one line each."""
        config = self.trainer_config()
        by_tuner, by_objective = catalog.name_of(self.tuner), catalog.name_of(self.objective)
        return [
            *(f"tuner '{by_tuner}': {fault}" for fault in self.tuner.faults(config)),
            *(
                f"objective '{by_objective}': {fault}"
                for fault in self.objective.faults(self.tuner, config)
            ),
        ]

    def trainer_config(self) -> SftConfig:
        """The trainer's options alone."""
        return SftConfig(**{name: getattr(self, name) for name in SftConfig.model_fields})


class RobustnessSection(Section):
    """`[evaluate] robustness`: the task's questions misspelt, reworded or perturbed otherwise."""

    perturbations: list[Literal["typos", "paraphrase", "distractor", "injection"]] = [
        "typos",
        "paraphrase",
        "distractor",
        "injection",
    ]
    """How the questions are changed; see `quality.tasks.perturbations`."""
    limit: int = Field(default=50, ge=1)
    """Items of each benchmark."""
    contestants: list[str] | None = None
    """Contestants that answer again; default: base and student, where they are contestants."""


_ROBUSTNESS = {"anyOf": [{"const": False}, RobustnessSection.model_json_schema()]}


class EvaluateSection(Section):
    """`[evaluate]`: benchmarks and contestants."""

    benchmarks: list[part_of("benchmark")] = []  # type: ignore[valid-type]
    """Held-out items of the task; the gate never keeps a sample that contains one."""
    off_task: list[part_of("benchmark")] = []  # type: ignore[valid-type]
    """Benchmarks off the task: what the student must not forget, and toxicity."""
    contestants: list[str] = Field(default=["teacher", "base", "student"], min_length=1)
    """Who answers: teacher, base, student, student:ID or an endpoint, each with +CONTEXT if wanted."""
    controls: bool = True
    """Whether base+fewshot, control:copy and control:majority answer the task's benchmarks too,
    where the student does; one that is named among the contestants answers in any case."""
    contexts: list[part_of("context")] = []  # type: ignore[valid-type]
    """Options of contexts; others have their defaults."""
    endpoints: dict[str, part_of("teacher")] = {}  # type: ignore[valid-type]
    """Other models to compare, by their names among the contestants."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest answer in tokens, the same for every contestant."""
    batch_size: int | None = Field(default=None, ge=1)
    """Items a local model answers at once; left out, as many as gain speed and fit into memory."""
    top_logprobs: int | None = Field(default=None, ge=0)
    """Log-probabilities to request from the teacher, for its confidence; 1 is enough."""
    usd_per_hour: float | None = Field(default=None, ge=0)
    """What an hour of this machine costs; local answers and training are priced by it."""
    robustness: Annotated[RobustnessSection | None, WithJsonSchema(_ROBUSTNESS)] = None
    """Asks the task's questions again in perturbed forms; off by default."""

    @field_validator("robustness", mode="before")
    @classmethod
    def _false_is_none(cls, value: Any) -> Any:
        return None if value is False else value

    @model_validator(mode="after")
    def _all_are_known(self) -> EvaluateSection:
        for name in self.endpoints:
            good = re.fullmatch(r"(?=.*[A-Za-z_])[A-Za-z0-9][A-Za-z0-9._-]*", name)
            if not good or re.fullmatch(rf"({'|'.join(OWN_CONTESTANTS)})(-[\d.]+)?", name):
                raise ValueError(
                    f"endpoint '{name}': a name of letters, digits, dot, dash and underscore, with a "
                    f"letter in it; none of {', '.join(OWN_CONTESTANTS)}, nor one of these less a number"
                )
        self.parts()
        for name in self.contestants:
            if self.contestants.count(name) > 1:
                raise ValueError(f"duplicate contestant '{name}'")
        for name in self.robustness_contestants:
            if name not in self.contestants:
                raise ValueError(
                    f"robustness.contestants names '{name}', which is not a contestant"
                )
        labels = [benchmark.label for benchmark in self.every_benchmark]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f"duplicate benchmark '{label}'; remove one, or give one its own name"
                )
        return self

    @property
    def judges_student(self) -> bool:
        """Whether the plan's own student is a contestant, in any context."""
        return any(part.who == "student" and part.student is None for part in self.parts())

    @property
    def every_benchmark(self) -> list[Any]:
        """Task and off-task benchmarks: none of their items is ever trained on."""
        return [*self.benchmarks, *self.off_task]

    @property
    def robustness_contestants(self) -> list[str]:
        """Contestants that also answer the perturbed questions."""
        if self.robustness is None:
            return []
        if self.robustness.contestants is None:
            return [name for name in ("base", "student") if name in self.contestants]
        return self.robustness.contestants

    @property
    def added_controls(self) -> list[str]:
        """Contestants that `controls` adds to those of the plan."""
        wanted = (
            ("base+fewshot", *CONTROLS) if self.controls and "student" in self.contestants else ()
        )
        return [name for name in wanted if name not in self.contestants]

    @property
    def every_contestant(self) -> list[str]:
        """The plan's contestants, then the controls that are added."""
        return [*self.contestants, *self.added_controls]

    def parts(self) -> list[ContestantSpec]:
        """Parse the contestants' names.

        Raises:
            ValueError: one is not valid.
        """
        names = [catalog.name_of(context) for context in self.contexts]
        endpoints = list(self.endpoints)
        return [parse_contestant(name, endpoints, names) for name in self.every_contestant]

    def context(self, name: str) -> Any:
        """A context with the plan's options, or its defaults."""
        matches = (context for context in self.contexts if catalog.name_of(context) == name)
        return next(matches, None) or catalog.build("context", name)


class RunSection(Section):
    """`[run]`: where scoring and answering run. It changes how long a run takes, and nothing of what
    it makes."""

    engine: Literal["local", "process", "dask", "ray"] = "local"
    """`local`: in the run's own process; `process`: in worker processes of this machine, which is
    worth their start from some ten thousand samples on; `dask`, `ray`: on such a cluster, which is
    started on this machine where there is no `address`."""
    address: str | None = Field(default=None, min_length=1)
    """Where the scheduler of a Dask or Ray cluster answers, such as "tcp://10.0.0.5:8786" or
    "ray://10.0.0.5:10001". Whoever reaches one may run code there: keep it in a trusted network."""
    workers: int | None = Field(default=None, ge=1)
    """Workers; left out, one for each processor, or all of the cluster at `address`."""
    gpus_per_worker: int = Field(default=0, ge=0)
    """GPUs that each worker has for itself; 0: none is set apart."""

    @model_validator(mode="after")
    def _goes_together(self) -> RunSection:
        if self.address is not None and self.engine in ("local", "process"):
            raise ValueError(
                f'engine = "{self.engine}" runs on this machine and takes no address; set engine = '
                '"dask" or "ray", or leave address out'
            )
        if self.gpus_per_worker and self.engine == "local":
            raise ValueError(
                'gpus_per_worker is for workers, and engine = "local" has none; set engine = '
                '"process", "dask" or "ray"'
            )
        return self

    @property
    def worker_count(self) -> int:
        """How many workers there are."""
        return self.workers or usable_processors()


class ShipSection(Section):
    """`[ship]`: when a student may be promoted; a run that does not meet it ends with exit code 4."""

    conditions: list[str] = Field(min_length=1)
    """For example "student >= base + 0.10 on sciq", "toxicity <= 0.02", "forgetting <= 0.03"."""
    certain: bool = True
    """Whether the bound of the 95 % interval has to meet a condition; false: the measured value
    alone, which a student no better than the base often meets by chance."""

    @model_validator(mode="after")
    def _all_can_be_read(self) -> ShipSection:
        for condition in self.conditions:
            parse(condition)
        return self
