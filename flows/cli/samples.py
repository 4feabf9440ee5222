"""Find samples in a warehouse by what they are, and print them as conversations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from flows.cli.output import PIPE_WIDTH, visible
from warehouse.db.store import Store
from warehouse.errors import UsageError
from warehouse.wording import did_you_mean, format_count

SHOWN = 1200
"""Characters of one text that are shown; `--full` shows all."""
LABEL = 16
"""Columns of the names before the texts."""
KEPT = {"all": "true", "kept": "kept", "dropped": "NOT kept"}
STATUSES = ("ok", "refused", "truncated", "invalid")

_BOUND = re.compile(r"\s*([\w/.-]+?)\s*(<=|>=|<|>|=)\s*(-?\d+(?:\.\d+)?)\s*")
_JSON_COLUMNS = ("messages", "facts")
_HIDDEN = ("question", "completion", "messages", "passage")
"""Columns that are printed as a conversation."""
_ONLY_WITH_VALUE = ("source", "unused_scores", "details", "facts", "status_reason")


@dataclass(frozen=True)
class SampleFilter:
    """Which samples are wanted; every condition that is given must hold."""

    only: str = "all"
    recipe: str | None = None
    status: str | None = None
    reason: str | None = None
    """A part of the gate's reasons, or of the recipe's reason for a status, in any case."""
    scores: Sequence[str] = ()
    """Bounds such as `grounded<0.5`, or `toxicity.insult>0.2` for a label."""
    text: str | None = None
    """A part of question, reply, messages or passage, in any case."""
    random: int | None = None
    """Draw so many, always the same ones for a seed."""
    seed: int = 0
    limit: int = 10


def find_samples(store: Store, wanted: SampleFilter) -> list[dict[str, Any]]:
    """The samples, each with the newest choice, its scores, messages and passage.

    Raises:
        UsageError: a condition cannot be read, or names what no sample has.
    """
    conditions, params = _conditions(store, wanted)
    order = "kept NULLS LAST, reason, sample_id"
    if wanted.random is not None:
        order = "md5(sample_id || ?)"
        params.append(str(wanted.seed))
    limit = wanted.limit if wanted.random is None else wanted.random
    rows = store.query(
        "SELECT * FROM (SELECT v.sample_id, v.recipe, nullif(p.source, '') AS source, v.* EXCLUDE (sample_id, recipe), c.details, s.status_reason, s.messages, s.passage, s.facts "
        "FROM samples_with_scores v JOIN samples s USING (sample_id) "
        "LEFT JOIN prompts p USING (prompt_id) "
        "LEFT JOIN newest_choices c USING (sample_id)) "
        f"WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {limit}",
        params,
    ).to_dicts()
    for row in rows:
        row |= {name: json.loads(row[name]) for name in _JSON_COLUMNS if row[name] is not None}
    return rows


def _conditions(store: Store, wanted: SampleFilter) -> tuple[list[str], list[Any]]:
    """SQL conditions with their parameters."""
    if wanted.only not in KEPT:
        raise UsageError(
            f"unknown --only '{wanted.only}' ({did_you_mean(wanted.only, list(KEPT))})"
        )
    conditions, params = [KEPT[wanted.only]], []
    if wanted.status is not None:
        if wanted.status not in STATUSES:
            hint = did_you_mean(wanted.status, STATUSES)
            raise UsageError(f"unknown --status '{wanted.status}' ({hint})")
        conditions.append("status = ?")
        params.append(wanted.status)
    if wanted.recipe is not None:
        _require(store, "--recipe", wanted.recipe, "SELECT DISTINCT recipe AS name FROM samples")
        conditions.append("recipe = ?")
        params.append(wanted.recipe)
    if wanted.reason is not None:
        conditions.append(
            "contains(lower(concat_ws(' ', reason, reasons::VARCHAR, status_reason)), lower(?))"
        )
        params.append(wanted.reason)
    if wanted.text is not None:
        conditions.append(
            "contains(lower(concat_ws(' ', question, completion, passage, array_to_string("
            "json_extract_string(messages, '$[*].content'), ' '))), lower(?))"
        )
        params.append(wanted.text)
    for bound in wanted.scores:
        condition, values = _bound(store, bound)
        conditions.append(condition)
        params += values
    return conditions, params


def _bound(store: Store, text: str) -> tuple[str, list[Any]]:
    """The condition of a bound on a score that decided, or on one of its labels."""
    match = _BOUND.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--score takes a bound such as 'grounded<0.5' or 'toxicity.insult>=0.2', not '{text}'"
        )
    name, sign, number = match.groups()
    scorer, _, label = name.partition(".")
    _require(store, "--score", scorer, "SELECT DISTINCT scorer AS name FROM scores")
    value, values = "value", [scorer, float(number)]
    if label:
        value = "json_extract(details, ?)::DOUBLE"
        values = [scorer, f"$.labels.{label}", float(number)]
    return (
        "sample_id IN (SELECT sample_id FROM scores_of_newest_choices "
        f"WHERE used AND scorer = ? AND {value} {sign} ?)"
    ), values


def _require(store: Store, option: str, name: str, query: str) -> None:
    known = sorted(store.query(query)["name"].to_list())
    if name not in known:
        hint = did_you_mean(name, known) if known else "there are none yet"
        raise UsageError(f"no sample has the {option.removeprefix('--')} '{name}' ({hint})")


def count_samples(store: Store) -> int:
    """How many samples the warehouse has."""
    return int(store.query("SELECT count(*) AS n FROM samples")["n"][0])


def print_samples(rows: Sequence[Mapping[str, Any]], is_full: bool) -> None:
    """Print samples: what is known of each, then its passage and conversation, wrapped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    for row in rows:
        for name, text in _lines(row):
            _print_text(console, name, text, is_full)
        console.print()


def _lines(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names and texts of one sample, in the order of reading."""
    lines = []
    for name, value in row.items():
        if name in _HIDDEN or (name in _ONLY_WITH_VALUE and value is None):
            continue
        is_plain = not isinstance(value, dict | list)
        text = str(value) if is_plain else json.dumps(value, ensure_ascii=False, default=str)
        lines.append((name, text))
    messages: list[dict[str, Any]] = row["messages"] or []
    texts = [str(message.get("content") or "") for message in messages]
    passage = row["passage"]
    if passage and not any(passage in text for text in texts):
        lines.append(("passage", passage))
    if row["question"] and row["question"] not in texts:
        lines.append(("question", row["question"]))
    for message, text in zip(messages, texts, strict=True):
        calls = message.get("tool_calls") or []
        if text or not calls:
            lines.append((str(message.get("role")), text))
        lines += [("tool call", _call_text(call)) for call in calls]
    return [*lines, ("completion", row["completion"])]


def _call_text(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{function.get('name')}({text})"


def _print_text(console: Console, name: str, text: str, is_full: bool) -> None:
    """Print a text beside its name, its further lines below the first."""
    if not is_full and len(text) > SHOWN:
        more = format_count(len(text) - SHOWN, "character")
        text = f"{text[:SHOWN]} ... ({more} more; --full shows all)"
    wrapped = Text(visible(text)).wrap(console, max(20, console.width - LABEL - 1))
    for number, line in enumerate(wrapped or [Text()]):
        label = f"{name if number == 0 else '':<{LABEL}} "
        console.print(Text.assemble((label, "bold"), line.plain.rstrip()), soft_wrap=True)
