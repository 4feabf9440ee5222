"""Define the verbs that take a trained student. Heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import (
    Json,
    PlanOrStudent,
    Set,
    StudentName,
    Where,
    app,
)
from warehouse.errors import ExportError, Stopped
from warehouse.extras import TRAINING, require_modules


@app.command()
def export(
    plan: PlanOrStudent = None,
    student: StudentName = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="adapter, merged or gguf; may be repeated. Default: every form the student allows.",
            metavar="FORM",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: exports/<student>, beside the warehouse.", metavar="FOLDER"),
    ] = None,
    outtype: Annotated[
        str, typer.Option(help="Type of the GGUF: f32, f16, bf16 or q8_0.", metavar="TYPE")
    ] = "f16",
    dtype: Annotated[
        str,
        typer.Option(
            help="Type of the merged weights: float32, bfloat16 or float16.", metavar="TYPE"
        ),
    ] = "float32",
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Compare the answers of all forms to the same held-out items.",
        ),
    ] = True,
    items: Annotated[int, typer.Option(help="Held-out items of the check.", min=1)] = 50,
    merged_least: Annotated[
        float, typer.Option(help="Required share of answers equal to the adapter's.", min=0, max=1)
    ] = 0.99,
    gguf_least: Annotated[float, typer.Option(help="The same for the GGUF.", min=0, max=1)] = 0.95,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    set_: Set = None,
    warehouse: Where = None,
    json_: Json = False,
) -> None:
    """Export a student as adapter, merged model and GGUF, and check that their answers agree."""
    require_modules("`distill export`", *TRAINING)
    plan_path, student = _plan_and_student(plan, student)
    from flows.cli import output
    from flows.students.export import ExportOptions, export_student
    from flows.students.find import find_student

    least = {"merged": merged_least, "gguf": gguf_least}
    wanted = ExportOptions(to or (), out, outtype, dtype, check, items, least, force)
    try:
        result = export_student(find_student(plan_path, set_ or (), student, warehouse), wanted)
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None
    output.print_json(result) if json_ else output.print_export(result)
    if result["faults"]:
        raise ExportError(
            f"the serving check failed: {'; '.join(result['faults'])}; all answers are in "
            f"{result['folder']}/serving_check.json"
        )


@app.command()
def chat(
    plan: PlanOrStudent = None,
    student: StudentName = None,
    base: Annotated[
        bool, typer.Option("--base", help="Chat with the untuned base instead.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Chat with the student and its base side by side.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="A system message.", metavar="TEXT")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Maximum length of an answer in tokens.", min=1)
    ] = 256,
    tools: Annotated[
        str | None,
        typer.Option(
            help="A JSON file with tools it may call. Default: those of the plan's recipes.",
            metavar="FILE",
        ),
    ] = None,
    no_tools: Annotated[
        bool, typer.Option("--no-tools", help="Give no tools, also not the plan's.")
    ] = False,
    set_: Set = None,
    warehouse: Where = None,
) -> None:
    """Chat with the student; through a pipe, each line is one turn."""
    require_modules("`distill chat`", *TRAINING)
    plan_path, student = _plan_and_student(plan, student)
    from flows.students.chat import chat as talk

    try:
        talk(
            plan_path, set_ or (), student, warehouse, base, compare, system, max_new_tokens,
            tools, no_tools,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _plan_and_student(plan: Path | None, student: str | None) -> tuple[str | None, str | None]:
    """The plan and the student; a student's folder may be given in the plan's place."""
    if plan is not None and student is None and plan.is_dir():
        return None, str(plan)
    return (str(plan) if plan else None), student
