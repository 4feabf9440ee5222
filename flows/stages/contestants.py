"""Create the contestants of a run, each with the model that answers for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from datagen.teacher import Request, Teacher
from distill.contestants.contestant import (
    Contestant,
    ContestantSpec,
    EndpointModel,
    Local,
    Model,
    find_student_by_id,
    is_control,
)
from distill.contestants.context import Context, Sources
from distill.contestants.controls import Copy, ItemParts, Majority, why_no_copy
from distill.plan.plan import Plan
from flows.engines.engine import LocalEngine, ShardEngine
from flows.runtime.prefect_flow import run_shard
from flows.runtime.progress import bar, meter, say
from flows.runtime.run import RunContext
from flows.stages.answer_shard import ShardedModel
from flows.stages.teacher_client import TeacherClient
from quality.tasks.benchmark import Benchmark, Item
from warehouse.db.store import Store
from warehouse.errors import NotFoundError, NothingToDoError
from warehouse.records import Answer, Call, Failure, Sample, Student
from warehouse.wording import format_count

AskTeacher = Callable[[Teacher, Sequence[Request]], tuple[dict[str, Call], dict[str, Failure]]]


@dataclass
class ContestantFactory:
    """Makes the plan's contestants; a model is loaded once and answers in all its contexts."""

    plan: Plan
    store: Store
    run_id: str
    student: Student | None
    kept: Sequence[Sample]
    ask: AskTeacher
    engine: ShardEngine = field(default_factory=LocalEngine)
    """Where the base and the students answer."""
    _models: dict[tuple[str, str | None], Model] = field(default_factory=dict)

    def contestant(self, name: str, benchmark: Benchmark) -> Contestant:
        """A contestant before one benchmark."""
        settings = self.plan.evaluate
        spec = next(spec for spec in settings.parts() if spec.name == name)
        context: Context = (
            ItemParts(benchmark)
            if is_control(name)
            else settings.context(
                spec.context or (self.plan.teacher_context if spec.who == "teacher" else "plain")
            )
        )
        model = self.model(spec)
        return make_contestant(self.plan, self.run_id, name, model, context, benchmark, self.kept)

    def why_left_out(self, name: str, benchmark: Benchmark, items: Sequence[Item]) -> str | None:
        """Why a contestant does not answer a benchmark; None where it does.

        Controls measure the task: of what is off task nothing is asked of those that the plan
        does not name, nor where a small score is good, which an empty answer has.
        """
        settings = self.plan.evaluate
        if name == "control:copy" and (why := why_no_copy(benchmark, items)):
            return why
        if name not in settings.added_controls:
            return None
        if benchmark not in settings.benchmarks:
            return "off the task"
        if not benchmark.higher_is_better:
            return "a small score is good"
        try:
            self.contestant(name, benchmark).questions(items[:1])
        except NothingToDoError as error:  # fewer rows than its context shows
            return str(error)
        return None

    def model(self, spec: ContestantSpec) -> Model:
        """The model behind a name.

        Raises:
            NotFoundError: there is no such student.
        """
        key = (spec.who, spec.student)
        if key not in self._models:
            self._models[key] = self._model(spec)
        return self._models[key]

    def _model(self, spec: ContestantSpec) -> Model:
        settings = self.plan.evaluate
        if spec.who == "control:copy":
            return Copy()
        if spec.who == "control:majority":
            return Majority(tuple(sample.completion for sample in self.kept))
        if spec.who == "teacher":
            teacher = self.plan.teacher
            return EndpointModel(teacher, partial(self.ask, teacher), settings.top_logprobs)
        if spec.who in settings.endpoints:
            endpoint = settings.endpoints[spec.who]
            return EndpointModel(endpoint, partial(self.ask, endpoint), settings.top_logprobs)
        student = None
        if spec.who == "student":
            student = find_student_by_id(self.store, spec.student) if spec.student else self.student
            if student is None:
                raise NotFoundError(
                    f"no student of the plan '{self.plan.name}' yet; run `distill train` first"
                )
        return local_model(self.plan, self.run_id, self.store.home, student, self.engine)


def make_contestant(
    plan: Plan,
    run_id: str,
    name: str,
    model: Model,
    context: Context,
    benchmark: Benchmark,
    kept: Sequence[Sample] = (),
) -> Contestant:
    """A model in a context before one benchmark.

    Samples with tools are no worked examples: nobody who answers items has their tools.
    """
    shown = [sample for sample in kept if "tools" not in (sample.facts or {})]
    return Contestant(
        name=name,
        model=model,
        context=context,
        sources=Sources(plan.shown_recipe, plan.folder, shown),
        benchmark=benchmark,
        run_id=run_id,
        max_new_tokens=plan.evaluate.max_new_tokens,
    )


def local_model(
    plan: Plan,
    run_id: str,
    home: Path,
    student: Student | None,
    engine: ShardEngine | None = None,
) -> ShardedModel:
    """A student of the project in `home`, or the plan's untuned base, on this machine's engine."""
    size = plan.evaluate.batch_size
    if student is None:
        base = plan.training.base
        model = Local(base, size, f"the untuned base ({base})", run_id)
    else:
        base = student.base_in(home)
        description = f"what {student.tuner['use']} learned on the base ({base})"
        folder = student.folder_in(home)
        model = Local(base, size, description, run_id, folder, student.student_id)
    return ShardedModel(model, engine or LocalEngine())


def answer_as_student(
    context: RunContext,
    benchmark: Benchmark,
    items: Sequence[Item],
    name: str,
    student: Student | None,
    model: ShardedModel | None = None,
    engine: ShardEngine | None = None,
) -> list[Answer]:
    """Answers of a student, or of the untuned base, to the bare questions.

    `model` is the student's, where it answers several benchmarks and is loaded once.
    """
    plan, run_id = context.plan, context.run.run_id
    model = model or local_model(plan, run_id, context.home, student, engine)
    plain = plan.evaluate.context("plain")
    contestant = make_contestant(plan, run_id, name, model, plain, benchmark)
    return collect_answers(context, contestant, items)


def request_answers(
    context: RunContext, teacher: Teacher, requests: Sequence[Request]
) -> tuple[dict[str, Call], dict[str, Failure]]:
    """Request what is not paid for yet, on the run's budget."""
    label = "teacher answers" if teacher is context.plan.teacher else "endpoint answers"
    with TeacherClient(context, teacher) as client, meter(label, len(requests)) as progress:
        results = client.ask(requests, "evaluate", progress)
    return results.calls, results.failures


def collect_answers(
    context: RunContext, contestant: Contestant, items: Sequence[Item], form: str = ""
) -> list[Answer]:
    """A contestant's answers to items: the recorded ones, and those that are requested now.

    `form` names the perturbation of the items; empty for the benchmark's own.
    """
    store, run_id = context.store, context.run.run_id
    benchmark = " / ".join(filter(None, (contestant.benchmark.label, form)))
    questions = contestant.questions(items)
    bare = sum(messages == item.messages for item, messages in questions.values())
    if contestant.context.searches and bare:
        context.notes.append(
            f"{contestant.name} found nothing that goes with {bare} of "
            f"{format_count(len(items), 'item')} of {benchmark}: there it saw the question alone"
        )
    known = {answer.answer_id for answer in store.by_ids(Answer, "answer_id", list(questions))}
    pending = {key: question for key, question in questions.items() if key not in known}
    # The client of an endpoint has tasks and a bar of its own, and records its failures.
    is_endpoint = isinstance(contestant.model, EndpointModel)
    replies: list[Answer | Failure] = []
    if is_endpoint:
        context.count("calls_reused", len(known))
        replies = contestant.answer(pending, lambda n: None)
    elif pending:
        with bar(f"{contestant.name}: {contestant.benchmark.label}", len(pending)) as advance:
            answer = partial(contestant.answer, pending, advance)
            # The shards of a base or student are tasks already.
            replies = answer() if isinstance(contestant.model, ShardedModel) else run_shard(answer)
    failures = [record for record in replies if isinstance(record, Failure)]
    if failures:
        number = format_count(len(failures), "item")
        say(f"{contestant.name}: {number} failed, first: {failures[0].error}")
    if not is_endpoint:
        store.insert(failures)
        context.count("failures", len(failures))
    store.insert([record for record in replies if isinstance(record, Answer)])
    answers: list[Answer] = store.by_ids(Answer, "answer_id", list(questions))
    context.count("answers_reused", sum(answer.run_id != run_id for answer in answers))
    store.enter(run_id, benchmark, contestant.name, [answer.answer_id for answer in answers])
    if is_control(contestant.name):
        silent = Counter(answer.abstained for answer in answers if not answer.text)
        context.notes += [
            f"{contestant.name} gave no answer to {number} of {format_count(len(items), 'item')} of "
            f"{benchmark}: {why}"
            for why, number in silent.items()
            if why
        ]
    return [replace(answer, contestant=contestant.name) for answer in answers]
