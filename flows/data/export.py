"""Export a plan's samples as a data set that trainers and hubs read; makes no calls."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from distill.plan.plan import Plan, load_plan
from distill.plan.project import open_store
from distill.report.data_card import DataSplit
from flows.data.card import card_of
from flows.data.rows import (
    FORMS,
    ExportedSample,
    Row,
    alternates,
    describe_for_llama_factory,
    rows_of,
)
from flows.data.splits import find_test_rows
from flows.data.tables import write_tables
from flows.runtime.publishing import new_file, new_folder, publish, require_free
from flows.stages.curated import Curated
from flows.stages.recorded import curate_recorded_samples
from warehouse.db.store import Store
from warehouse.errors import ExportError, NothingToDoError, UsageError
from warehouse.inputs.assets import file_sha256
from warehouse.records import Prompt
from warehouse.wording import did_you_mean, format_count

MANIFEST = "data_export.json"
"""Marks a folder as an exported data set, and lists its files."""
LLAMA_FACTORY = "dataset_info.json"
WHICH = ("kept", "dropped", "all")


@dataclass(frozen=True)
class DataOptions:
    """Options of an export."""

    form: str = "chat"
    out: Path | None = None
    which: str = "kept"
    holdout: float = 0.1
    force: bool = False


def export_data(plan_path: str, overrides: Sequence[str], options: DataOptions) -> dict[str, Any]:
    """Write the samples that the gate keeps by the recorded scores, or others; nothing else changes.

    A file or folder appears whole or not at all.

    Returns:
        `path`, `form`, `rows` (by split), `samples`, `left_out` (rows that the form cannot hold),
        `not_scored` (samples that the gate drops for want of a score; `curate` gives it),
        `not_alternating` (rows that LLaMA-Factory skips), and `dataset_info`, its file.

    Raises:
        UsageError: an option is wrong.
        ExportError: the path is taken.
        NothingToDoError: there is nothing to export; says what to run.
    """
    for name, value, allowed in (("format", options.form, FORMS), ("only", options.which, WHICH)):
        if value not in allowed:
            raise UsageError(f"unknown --{name} '{value}' ({did_you_mean(value, list(allowed))})")
    plan = load_plan(plan_path, overrides)
    plan.require("curate")
    store = open_store(plan)
    out = options.out or _default_path(plan, store, options)
    _require_room(out, options)
    curated = curate_recorded_samples(plan, store)
    samples = _selected(plan, store, curated, options.which)
    rows = rows_of(options.form, samples, with_choices=options.which != "kept")
    fits = [row is not None for row in rows]
    written = list(compress(samples, fits))
    usable = [row for row in rows if row is not None]
    if not usable:
        raise NothingToDoError(
            f"none of {format_count(len(samples), 'sample')} fits into the form '{options.form}'; "
            "use --format chat or sharegpt"
        )
    result: dict[str, Any] = {
        "path": str(out),
        "form": options.form,
        "only": options.which,
        "samples": len(curated.sample_set),
        "selection_id": curated.selection_id,
        "left_out": len(samples) - len(usable),
        "not_scored": sum("not scored" in choice.reason for choice in curated.choices),
        "curate": plan.command("curate"),
        "not_alternating": sum(not alternates(each) for each in written),
    }
    if options.form == "datasets":
        return {**result, **_write_folder(plan, store, curated, written, usable, options, out)}
    is_for_training = options.which == "kept"
    entry = describe_for_llama_factory(options.form, out.name, written) if is_for_training else None
    info = out.parent / LLAMA_FACTORY
    entries = _entries_with(info, out.stem, entry) if entry else {}
    with new_file(out) as part:
        _write_rows(usable, part, is_table=options.form == "parquet")
        if out.exists() and not options.force:
            raise ExportError(_taken(out))  # it came meanwhile
    if entry:
        with new_file(info) as part:
            part.write_text(_json(entries), encoding="utf-8")
    split = "dropped" if options.which == "dropped" else "train"
    return {**result, "rows": {split: len(usable)}, "dataset_info": str(info) if entry else None}


def _default_path(plan: Plan, store: Store, options: DataOptions) -> Path:
    """Beside the warehouse, as exports of students are."""
    which = "" if options.which == "kept" else f"-{options.which}"
    folder = store.home / "exports"
    if options.form == "datasets":
        return folder / f"{plan.name}-data{which}"
    ending = "parquet" if options.form == "parquet" else f"{options.form}.jsonl"
    return folder / f"{plan.name}{which}.{ending}"


def _require_room(out: Path, options: DataOptions) -> None:
    if options.form == "datasets":
        require_free(out, options.force, MANIFEST)
    elif out.is_dir():
        raise ExportError(f"{out} is a folder; name a file with --out, or use --format datasets")
    elif out.exists() and not options.force:
        raise ExportError(_taken(out))


def _taken(out: Path) -> str:
    return f"{out} already exists; replace it with --force, or choose another path with --out"


def _selected(plan: Plan, store: Store, curated: Curated, which: str) -> list[ExportedSample]:
    """The samples that are wanted, in the order of their ids.

    Raises:
        NothingToDoError: there are none, or the gate could not yet choose.
    """
    choices = {choice.sample_id: choice for choice in curated.choices}
    is_scored = not any("not scored" in choice.reason for choice in curated.choices)
    if which != "all" and not is_scored and not any(choice.kept for choice in curated.choices):
        raise NothingToDoError(
            f"no sample of plan '{plan.name}' is scored yet; run `{plan.command('curate')}` first, "
            "or export all of them with --all"
        )
    scores: dict[str, dict[str, float | None]] = {}
    for score in curated.scores:
        scores.setdefault(score.sample_id, {})[score.scorer] = score.value
    ids = [sample.prompt_id for sample in curated.samples]
    sources = {p.prompt_id: p.source for p in store.by_ids(Prompt, "prompt_id", ids)}
    wanted = [
        ExportedSample(
            sample,
            choices[sample.sample_id],
            scores.get(sample.sample_id, {}),
            sources.get(sample.prompt_id),
        )
        for sample in sorted(curated.samples, key=lambda sample: sample.sample_id)
        if which == "all" or choices[sample.sample_id].kept == (which == "kept")
    ]
    if not wanted:
        number = format_count(len(curated.sample_set), "sample")
        told = "keeps none" if which == "kept" else "drops none"
        raise NothingToDoError(f"the gate {told} of {number}; --all exports them all")
    return wanted


def _write_folder(
    plan: Plan,
    store: Store,
    curated: Curated,
    samples: Sequence[ExportedSample],
    rows: Sequence[Row],
    options: DataOptions,
    out: Path,
) -> dict[str, Any]:
    """Write the folder: a table for each split, the card, LLaMA-Factory's description, the manifest."""
    splits = _splits(store, samples, rows, options)
    files = {name: f"data/{name}.parquet" for name, part in splits.items() if part}
    part = new_folder(out)
    try:
        (part / "data").mkdir()
        write_tables({part / file: splits[name] for name, file in files.items()})
        counts = {name: len(splits[name]) for name in files}
        listed = [DataSplit(name, file, counts[name]) for name, file in files.items()]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        card = card_of(
            plan, store, curated, samples, listed, columns, options.which, options.holdout
        )
        (part / "README.md").write_text(card, encoding="utf-8")
        entries = {
            f"{out.name}-{name}": describe_for_llama_factory("datasets", file, samples)
            for name, file in files.items()
            if options.which != "dropped"
        }
        if entries:
            (part / LLAMA_FACTORY).write_text(_json(entries), encoding="utf-8")
        sums = {
            file.relative_to(part).as_posix(): file_sha256(file)
            for file in sorted(part.rglob("*"))
            if file.is_file()
        }
        manifest = {
            "selection_id": curated.selection_id,
            "plan_hash": plan.plan_hash,
            "sha256": sums,
        }
        (part / MANIFEST).write_text(_json(manifest), encoding="utf-8")
        require_free(out, options.force, MANIFEST)
        publish(part, out, MANIFEST)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"rows": counts, "dataset_info": str(out / LLAMA_FACTORY) if entries else None}


def _splits(
    store: Store, samples: Sequence[ExportedSample], rows: Sequence[Row], options: DataOptions
) -> dict[str, list[Row]]:
    """The rows of each split; what the gate dropped is in a split of its own, which nobody trains on."""
    if options.which == "dropped":
        return {"dropped": list(rows)}
    ids = [each.sample.prompt_id for each in samples]
    prompts = {prompt.prompt_id: prompt for prompt in store.by_ids(Prompt, "prompt_id", ids)}
    is_test = find_test_rows([each.sample for each in samples], prompts, options.holdout)
    if all(is_test):  # a handful of samples: all of them are for training
        return {"train": list(rows), "test": []}
    return {
        "train": list(compress(rows, (not each for each in is_test))),
        "test": list(compress(rows, is_test)),
    }


def _write_rows(rows: Sequence[Row], path: Path, is_table: bool) -> None:
    if is_table:
        write_tables({path: rows})
        return
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _entries_with(info: Path, name: str, entry: Row) -> dict[str, Any]:
    """LLaMA-Factory's descriptions in a folder, with this one; the others stay.

    Raises:
        ExportError: the file that is there describes no data sets.
    """
    if not info.exists():
        return {name: entry}
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        entries = None
    if not isinstance(entries, dict):
        raise ExportError(
            f"{info} already exists and is no JSON object; LLaMA-Factory's description belongs there, "
            "so move it away, or choose another folder with --out"
        )
    return {**entries, name: entry}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
