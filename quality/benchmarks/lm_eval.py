"""Any generative task of lm-evaluation-harness, by name."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from quality.tasks.benchmark import Benchmark, Grade, Item, cut, each_once
from warehouse.errors import AssetError, Outcome, PlanError, StillhouseError
from warehouse.inputs.rows import Row
from warehouse.records import make_id

_SEED = 1234  # of the harness's own worked examples
_PER_ITEM = ("mean", "nanmean", "median")  # aggregations of one number per item


@dataclass(kw_only=True)
class LmEval(Benchmark):
    """A task of lm-evaluation-harness (Gao et al., 2021) that is answered in text.

    Prompt, worked examples, stop texts, filters and metrics are the task's own. Its whole
    context is one user message, so figures differ from the harness's for a model without chat
    template. Where a task has several filters, a metric is named with its filter, and the
    first is the headline. Code from a data hub is never run, nor is code that a model writes.
    """

    content: ClassVar[str | None] = None

    task: str
    """The task's name in the harness, such as "gsm8k"."""
    limit: int | None = None
    """At most so many items."""
    include_path: str | None = None
    """A folder with further tasks; its YAML files may name Python functions, which are run."""
    num_fewshot: int | None = None
    """Worked examples in the context; left out, as many as the task wants."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.num_fewshot or 0) < 0:
            raise ValueError("num_fewshot is 0 or more")
        self._folder = Path()

    @property
    def version(self) -> str:  # type: ignore[override]
        """Of this file, of the task, of what asks and grades it, and the number of worked examples."""
        text = self._config.get("metadata") or {}
        return f"2+{text.get('version', 'unversioned')}+{self._made_of} {self._shots}-shot"

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """The task's metrics that are a number per item, the first filter's first."""
        return tuple(self._named(metric, rule) for rule in self._rules for metric in self._numbers)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """As the task says of its headline."""
        return self._numbers[next(iter(self._numbers))]

    @property
    def stop(self) -> tuple[str, ...]:  # type: ignore[override]
        """The task's `until`; where it has none, its delimiter of worked examples."""
        until = (self._config.get("generation_kwargs") or {}).get("until")
        until = self._config.get("fewshot_delimiter", "\n\n") if until is None else until
        return (until,) if isinstance(until, str) else tuple(until)

    @property
    def max_new_tokens(self) -> int | None:
        """The task's `max_gen_toks`, where it has one."""
        options = self._config.get("generation_kwargs") or {}
        several = (options.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens"))
        return next((int(value) for value in several if value is not None), None)

    @property
    def label(self) -> str:
        """Its name and the task's, and how many worked examples where that is an option."""
        return super().label.replace(f"task={self.task}", self.task, 1)

    def read(self, answer: str) -> str:
        """Up to the first stop text, as the harness reads it: white space counts."""
        return cut(answer, self.stop)

    def items(self, folder: Path) -> Iterator[Item]:
        """The task's documents in their order; one with the same question and target as another only once.

        Raises:
            PlanError: there is no such task, or it is not one of text and numbers.
            AssetError: the harness or the task's data could not be downloaded.
        """
        self._folder = folder
        task = self._task
        task.set_fewshot_seed(_SEED)  # the same examples whenever the items are read
        return each_once(map(self._item, range(len(task.task_docs))), self.limit)

    def grade(self, item: Item, answer: str) -> Grade:
        """By the task's filters and `process_results`; abstains where they fail."""
        from lm_eval.api.instance import Instance  # type: ignore[import-untyped]

        task, number = self._task, int(item.row.source.rpartition(":")[2])
        doc = task.task_docs[number]
        instance = Instance("generate_until", doc, (item.messages[0]["content"], {}), 0)
        instance.resps = [answer]
        values: dict[str, float | None] = dict.fromkeys(self.metrics)
        try:
            for rule in task._filters:
                rule.apply([instance])
            for rule, replies in instance.filtered_resps.items():
                for metric, value in task.process_results(doc, [replies]).items():
                    if metric in self._numbers and math.isfinite(value):
                        values[self._named(metric, rule)] = float(value)
        except ImportError as error:  # nothing could be graded: mended, the same answers can
            raise AssetError(
                f"the grader of lm_eval task '{self.task}' lacks a package ({error}); install it and "
                "run again"
            ) from None
        except Exception as error:  # a task is anyone's code; what fails is no 0.0
            text = f"the task's grader failed: {type(error).__name__}: {error}"
            return Grade(dict.fromkeys(values), " ".join(text.split())[:200])
        missing = [metric for metric, value in values.items() if value is None]
        return Grade(values, f"the task gives no {missing[0]}" if missing else None)

    def _item(self, number: int) -> Item:
        task = self._task
        doc = task.task_docs[number]
        context = task.fewshot_context(
            doc, num_fewshot=self._shots, gen_prefix=task.doc_to_prefix(doc)
        )
        question = str(task.doc_to_text(doc))
        messages = [{"role": "user", "content": question}]
        row = Row(question, messages, _references(task, doc), source=f"{self.task}:{number}")
        item_id = make_id(row.row_id, row.reference)  # with another target it is another item
        return Item(item_id, row, [{"role": "user", "content": str(context)}])

    def _named(self, metric: str, rule: str) -> str:
        return metric if len(self._rules) == 1 else f"{metric},{rule}"

    @property
    def _shots(self) -> int:
        shots = self._config.get("num_fewshot") if self.num_fewshot is None else self.num_fewshot
        return int(shots or 0)

    @cached_property
    def _rules(self) -> list[str]:
        return [rule["name"] for rule in self._config.get("filter_list") or [{"name": "none"}]]

    @cached_property
    def _numbers(self) -> dict[str, bool]:
        """Metric -> whether higher is better, of those that are a number per item."""
        metrics = {}
        for metric in self._config.get("metric_list") or [{"metric": "exact_match"}]:
            name = str(metric.get("metric"))
            if metric.get("aggregation", "mean" if name == "exact_match" else "") in _PER_ITEM:
                metrics[name] = bool(metric.get("higher_is_better", True))
        if not metrics:
            raise PlanError(
                f"lm_eval task '{self.task}' has no metric that is a number per item; allowed are "
                f"metrics whose aggregation is one of: {', '.join(_PER_ITEM)}"
            )
        return metrics

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The task's configuration; its data are not needed for it."""
        _, entry = self._found
        config: dict[str, Any] = {} if entry.cfg is None else entry.cfg
        if entry.kind.name in ("GROUP", "TAG"):
            raise PlanError(
                f"lm_eval '{self.task}' is a group of tasks; allowed is one task with "
                "output_type generate_until: name its tasks one by one"
            )
        kind = config.get("output_type", "generate_until")
        if "class" in config:
            raise PlanError(
                f"lm_eval task '{self.task}' is a program of its own; allowed are tasks that are "
                "described in YAML alone"
            )
        if kind != "generate_until":
            raise PlanError(
                f"lm_eval task '{self.task}' has output_type {kind}: it compares likelihoods, which "
                "not every contestant can give; allowed is generate_until"
            )
        if config.get("unsafe_code") or config.get("doc_to_image") or config.get("doc_to_audio"):
            raise PlanError(
                f"lm_eval task '{self.task}' runs code or shows images or sound; allowed are tasks "
                "of text alone"
            )
        return config

    @cached_property
    def _made_of(self) -> str:
        """A hash of the harness's version, of the task's configuration, and where the task is a
        user's own of the files beside it; the same wherever they lie."""
        _, entry = self._found
        home = Path(entry.yaml_path).resolve().parent
        files: list[Path] = []
        if self.include_path:
            files = sorted(f for f in home.iterdir() if f.suffix in (".py", ".yaml", ".yml"))
        text = [json.dumps(self._config, default=str), *(f.read_text("utf-8") for f in files)]
        harness = find_spec("lm_eval")
        places = [
            home,
            *(Path(path) for path in (harness and harness.submodule_search_locations) or ()),
        ]
        for place in places:
            text = [text.replace(str(place), "") for text in text]
        return make_id(metadata.version("lm_eval"), [file.name for file in files], text)[:8]

    @cached_property
    def _found(self) -> tuple[Any, Any]:
        """(the harness's task manager, its entry of the task)."""
        if find_spec("lm_eval") is None:
            raise AssetError(
                "benchmark 'lm_eval' needs lm-evaluation-harness; pip install 'stillhouse[lm-eval]'"
            )
        own = None
        if self.include_path:
            own = str((self._folder / Path(self.include_path).expanduser()).resolve())
        if own and not Path(own).is_dir():
            raise PlanError(f"benchmark 'lm_eval': there is no folder {self.include_path}")
        for defaults in (False, True) if own else (True,):  # to read all tasks takes seconds
            manager = _manager(own, defaults)
            if self.task in manager.task_index:
                return manager, manager.task_index[self.task]
        near = get_close_matches(self.task, manager.all_subtasks, n=1)
        raise PlanError(
            f"lm_eval has no task '{self.task}'; "
            + (f"did you mean '{near[0]}'?" if near else "lm-eval ls tasks lists them")
        )

    @cached_property
    def _task(self) -> Any:
        """The task with its data."""
        _ = self._config  # refuses what is no task for this benchmark
        manager, entry = self._found
        from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-untyped]

        try:
            text = load_yaml(entry.yaml_path, resolve_func=True)
            spec = {**text, "task": self.task, "num_fewshot": self._shots}
            return manager.load([spec])["tasks"][self.task]
        except (StillhouseError, Outcome):
            raise
        except Exception as error:  # data sets fail in many ways; all mean: not to be had
            why = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise AssetError(
                f"the data of lm_eval task '{self.task}' could not be downloaded ({why}); connect to the "
                "network once, or give a task with data of your own by include_path"
            ) from None


@cache
def _manager(include_path: str | None, defaults: bool) -> Any:
    """The harness's index of tasks."""
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # remarks on tasks are for their authors
    return TaskManager(include_path=include_path, include_defaults=defaults)


def _references(task: Any, doc: Any) -> list[str]:
    """What the task takes for right, as texts to be shown; its own grader may know better."""
    target = task.doc_to_target(doc)
    if isinstance(target, int) and task.config.doc_to_choice is not None:
        target = task.doc_to_choice(doc)[target]
    several = target if isinstance(target, list) else [target]
    return [text for value in several if (text := str(value)).strip()]
