"""Export a student in forms that other tools load, and check each before it is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from datagen.gguf_server import GgufServer
from distill.learning.serving_check import (
    ServingAgreement,
    ServingReply,
    ask_gguf,
    ask_model,
    measure_agreement,
)
from distill.report.model_card import Form, render_card, slug
from flows.runtime.progress import bar, say
from flows.runtime.publishing import new_folder, publish, require_free
from flows.students.find import FoundStudent
from flows.students.model_card import card_of
from quality.tasks.benchmark import Benchmark, Item
from train.export import gguf
from train.export.safetensors import Dtype, export_adapter, export_merged, require_mergeable
from warehouse.catalog import did_you_mean, name_of
from warehouse.errors import NothingToDoError, UsageError
from warehouse.inputs.assets import file_sha256

FORMS = ("adapter", "merged", "gguf")
MANIFEST = "export.json"
"""Marks a folder as an export, and lists its files."""
CHECK = "serving_check.json"
FAILED = ".failed"
"""Ending of the folder of an export whose serving check failed."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export and of its check."""

    forms: Sequence[str] = ()  # none named: all that the tuner allows
    out: Path | None = None
    outtype: str = "f16"
    dtype: str = "float32"
    check: bool = True
    items: int = 50
    least: dict[str, float] = field(default_factory=lambda: {"merged": 0.99, "gguf": 0.95})
    force: bool = False


def export_student(student: FoundStudent, options: ExportOptions) -> dict[str, Any]:
    """Write a student's forms, check them, describe them; the folder appears whole or not at all.

    An export whose check fails goes to a folder that ends in `.failed`, never to the
    one that was asked for.

    Returns:
        `folder`, `forms` (name, files, bytes), `checks` (rows of the serving check), and
        `faults`: what the check found wrong, one line each.

    Raises:
        ExportError: a form cannot be made or checked, or the folder is taken.
        NothingToDoError: the benchmark has no items.
        UsageError: an option is wrong.
    """
    forms = _forms(student, options)
    if options.out is None:
        options = replace(options, out=student.store.path.parent / "exports" / slug(student.name))
    out = options.out or Path()
    require_free(out, options.force, MANIFEST)
    check_inputs = _held_out(student, options) if options.check and forms != ["adapter"] else None
    if check_inputs:
        require_free(_failed_folder(out), True, MANIFEST)
    part = new_folder(out)
    try:
        written = _write(student, options, forms, part)
        checks = _check(student, options, written, part, *check_inputs) if check_inputs else []
        faults = [check.fault for check in checks if check.fault]
        _describe(student, written, checks, part)
        place = _failed_folder(out) if faults else out
        require_free(place, options.force or bool(faults), MANIFEST)
        publish(part, place, MANIFEST)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {
        "student_id": student.record.student_id if student.record else None,
        "folder": str(place),
        "forms": [
            {
                "form": form.name,
                "folder": str(place / form.folder),
                "file": form.file or None,
                "bytes": sum(f.stat().st_size for f in (place / form.folder).iterdir()),
            }
            for form in written
        ],
        "checks": [check.row() for check in checks],
        "faults": faults,
    }


def _forms(student: FoundStudent, options: ExportOptions) -> list[str]:
    """The forms to export, in order, after a check of their requirements."""
    for name in options.forms:
        if name not in FORMS:
            raise UsageError(f"unknown form '{name}' ({did_you_mean(name, list(FORMS))})")
    for name, value, kind in (
        ("outtype", options.outtype, gguf.Outtype),
        ("dtype", options.dtype, Dtype),
    ):
        if value not in get_args(kind):
            hint = did_you_mean(value, list(get_args(kind)))
            raise UsageError(f"unknown --{name} '{value}' ({hint})")
    allowed = FORMS if student.tuner.mergeable else FORMS[:1]
    forms = [name for name in FORMS if name in (options.forms or allowed)]
    if forms != ["adapter"]:
        require_mergeable(student.tuner)
    elif not options.forms:
        say(f"tuner '{name_of(student.tuner)}' cannot be merged: the adapter alone is exported")
    if "gguf" in forms:
        gguf.require_converter()
        if options.check:
            GgufServer.require()
    return forms


def _held_out(
    student: FoundStudent, options: ExportOptions
) -> tuple[Benchmark, list[Item], int, int | None]:
    """The first benchmark of the plan, its first items, and how they are asked."""
    if student.plan is None or not student.plan.evaluate.benchmarks:
        raise UsageError(
            "the serving check asks held-out items, and none are named; name a plan that has "
            "[evaluate] benchmarks, or give --no-check"
        )
    settings = student.plan.evaluate
    benchmark: Benchmark = settings.benchmarks[0]
    items = list(benchmark.items(student.plan.folder))[: options.items]
    if not items:
        raise NothingToDoError(f"benchmark '{name_of(benchmark)}' gives no items; give --no-check")
    return benchmark, items, settings.max_new_tokens, settings.batch_size


def _write(
    student: FoundStudent, options: ExportOptions, forms: Sequence[str], part: Path
) -> list[Form]:
    written = []
    if "adapter" in forms:
        say("writing the adapter")
        export_adapter(student.base, student.path, part / "adapter")
        written.append(Form("adapter", "adapter"))
    if list(forms) != ["adapter"]:
        say(f"merging, in {options.dtype}")
        dtype: Any = options.dtype
        export_merged(student.base, student.path, part / "merged", dtype)
        written.append(Form("merged", "merged"))
    if "gguf" in forms:
        say(f"converting to GGUF, in {options.outtype}")
        outtype: Any = options.outtype
        file = f"{slug(student.name)}.{options.outtype}.gguf"
        (part / "gguf").mkdir()
        gguf.convert(part / "merged", part / "gguf" / file, outtype)
        text = gguf.modelfile(part / "merged", file)
        (part / "gguf" / "Modelfile").write_text(text, encoding="utf-8")
        written.append(Form("gguf", "gguf", file))
    if "merged" not in forms and "gguf" in forms:
        shutil.rmtree(part / "merged")
    return [form for form in written if form.name in forms]


def _check(
    student: FoundStudent,
    options: ExportOptions,
    written: Sequence[Form],
    part: Path,
    benchmark: Benchmark,
    items: Sequence[Item],
    max_new_tokens: int,
    batch_size: int | None,
) -> list[ServingAgreement]:
    """Let every form answer the same items, and compare and record the answers."""
    messages = [item.messages for item in items]
    folders = {form.name: part / form.folder for form in written}

    def of_model(label: str, base: str, student: Path | None) -> list[ServingReply]:
        with bar(f"{label} answers", len(items)) as advance:
            return ask_model(base, student, messages, max_new_tokens, batch_size, advance)

    adapter = of_model("adapter", student.base, folders.get("adapter", student.path))
    checks = []
    for form in written:
        if form.name == "merged":
            replies = of_model("merged", str(folders["merged"]), None)
            name = f"merged {options.dtype}"
        elif form.name == "gguf":
            longest = max(reply.prompt_tokens for reply in adapter)
            file = folders["gguf"] / form.file
            with bar("gguf answers", len(items)) as advance:
                replies = ask_gguf(file, messages, max_new_tokens, longest, advance)
            name = f"gguf {options.outtype}"
        else:
            continue
        checks.append(
            measure_agreement(name, replies, adapter, items, benchmark, options.least[form.name])
        )
    manifest = {
        "benchmark": f"{name_of(benchmark)}@{benchmark.version}",
        "items": len(items),
        "max_new_tokens": max_new_tokens,
        "forms": [check.row() for check in checks],
    }
    (part / CHECK).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return checks


def _describe(
    student: FoundStudent, written: Sequence[Form], checks: Sequence[ServingAgreement], part: Path
) -> None:
    """The card, for all forms and in each form's folder for itself, and the manifest."""
    card = card_of(student, written, checks)
    (part / "README.md").write_text(render_card(card), encoding="utf-8")
    for form in written:
        alone = replace(card, forms=[replace(form, folder=".")])
        (part / form.folder / "README.md").write_text(render_card(alone), encoding="utf-8")
    files = {
        file.relative_to(part).as_posix(): file_sha256(file)
        for file in sorted(part.rglob("*"))
        if file.is_file()
    }
    manifest = {"student_id": card.student_id, "plan_hash": card.plan_hash, "sha256": files}
    (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _failed_folder(out: Path) -> Path:
    return out.with_name(out.name + FAILED)
