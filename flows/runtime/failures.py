"""Describe failed requests: the commonest reason, and the question behind each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datagen.generate import requests_for
from datagen.teacher import Sampling
from warehouse.db.store import Store
from warehouse.errors import first_line
from warehouse.records import Prompt, Run

_VARYING = re.compile(r"\b\w*\d\w*\b")
"""Numbers and ids in a reason, which differ from request to request."""


def commonest_reason(errors: Iterable[str]) -> str:
    """The commonest of several reasons, as it stood once, with how often: "38 x HTTP 400: ..." """
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for error in errors:
        kind = _VARYING.sub("#", error)
        examples.setdefault(kind, error)
        counts[kind] += 1
    if not counts:
        return "no reason is recorded"
    [(kind, number)] = counts.most_common(1)
    return f"{number:,} x {first_line(ValueError(examples[kind].partition(': ')[2]))}"


def with_questions(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `failures`, each with the question that its request asked, where it is known.

    A failure names a call, whose id is made of teacher, messages and sampling: so the ids that
    the run's prompts had are made again.
    """
    failed = {row["run_id"] for row in rows if row["stage"] == "generate"}
    runs = [run for run in store.read(Run) if run.run_id in failed and run.summary.get("teacher")]
    prompts = store.read(Prompt) if runs else []
    questions: dict[str, str] = {}
    for run in runs:
        sampling = Sampling(**run.plan["datagen"]["sampling"])
        requests = requests_for(prompts, run.summary["teacher"], sampling)
        for prompt, request in zip(prompts, requests, strict=True):
            questions[request.call_id] = prompt.question
    described = []
    for row in rows:
        question = questions.get(row["subject"].partition("/")[0])
        place = {"question": question} if question is not None else {}
        described.append({**row, **place})
    return described
