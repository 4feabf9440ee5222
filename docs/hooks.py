"""Generate the site's reference pages from the code: verbs, plan keys and parts."""

from __future__ import annotations

import json
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from distill.plan.schema import plan_schema
from flows.cli import app
from warehouse import catalog

KINDS = {
    "teacher": "`teacher`, `quality.judge` and `[evaluate.endpoints.NAME]`",
    "recipe": "`[[datagen.recipe]]`",
    "scorer": "`quality.scorers`",
    "benchmark": "`evaluate.benchmarks` and `evaluate.off_task`",
    "tuner": "`train.tuner`",
    "objective": "`train.objective`",
    "context": "`evaluate.contexts`, and after `+` in the name of a contestant",
}

SECTIONS = ("datagen", "quality", "train", "evaluate", "ship")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for name, write in (("verbs", verbs_page), ("plan", plan_page), ("parts", parts_page)):
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def verbs_page() -> str:
    """Every verb of `distill`, with its arguments and options."""
    lines = [
        "# Verbs",
        "",
        "`distill VERB --help` shows the same in the terminal.",
        "",
        "| verb | what it does |",
        "|---|---|",
    ]
    verbs = list(_verbs(get_command(app), []))
    lines += [f"| [`{name}`](#{_anchor(name)}) | {_line(verb.help)} |" for name, verb in verbs]
    for name, verb in verbs:
        lines += ["", f"## {name} {{ #{_anchor(name)} }}", "", str(verb.help).strip(), ""]
        usage = " ".join(piece for piece in verb.collect_usage_pieces(_context(verb, name)))
        lines += ["```text", f"distill {name} {usage}", "```", ""]
        rows = [row for one in verb.params if (row := _parameter(one))]
        if rows:
            lines += ["| option | meaning | default |", "|---|---|---|", *rows]
    lines += [
        "",
        "## Exit codes",
        "",
        "| code | means |",
        "|---|---|",
        "| 0 | done |",
        "| 2 | a foreseen error, described in one line on stderr |",
        "| 3 | stopped on purpose (Ctrl-C, a budget); the last line is the command that resumes |",
        "| 4 | done, but a condition of `[ship]` is not met |",
        "",
        "Anything else is a bug and keeps its traceback. `distill --debug VERB ...` shows the traceback "
        "of a foreseen error too; so does `STILLHOUSE_DEBUG=1`.",
    ]
    return "\n".join(lines) + "\n"


def plan_page() -> str:
    """Every key of a plan, with its type, default and meaning."""
    schema = plan_schema()
    definitions = schema["$defs"]
    lines = [
        "# Plan keys",
        "",
        "A plan is one TOML file. Only `name`, `teacher`, one recipe and, for a student, `train.base` "
        "have no default. An unknown key is refused, with the nearest one that exists; so is a wrong "
        "type. `--set train.epochs=3` overrides a key for one command.",
        "",
        "Where the type is a link, the value is a part: a table with `use` and that part's options, or "
        "its name alone. [Parts](parts.md) lists them.",
        "",
        "`distill schema` prints all this as a JSON schema. Editors with TOML support (Even Better "
        "TOML, taplo) complete and check a plan whose first line names it: "
        "`#:schema ./plan.schema.json`.",
        "",
        "## Top level",
        "",
        *_table(schema, definitions, nested=False),
    ]
    for section in SECTIONS:
        lines += ["", f"## [{section}] {{ #{section} }}"]
        body = _resolve(schema["properties"][section], definitions)
        lines += _section(section, body, definitions)
    return "\n".join(lines) + "\n"


def parts_page() -> str:
    """Every part of each kind, with its options."""
    lines = [
        "# Parts",
        "",
        "A part is what a plan names with `use`. `distill list` prints these, and "
        "`distill list scorer judge` the options of one.",
    ]
    definitions = plan_schema()["$defs"]
    for kind, where in KINDS.items():
        lines += ["", f"## {kind.capitalize()}s {{ #{kind} }}", "", f"In a plan: {where}.", ""]
        lines += ["| name | what it is |", "|---|---|"]
        names = catalog.names(kind)
        lines += [
            f"| [`{name}`](#{kind}-{name}) | {_line(catalog.summary(kind, name))} |"
            for name in names
        ]
        for name in names:
            lines += ["", f"### {name} {{ #{kind}-{name} }}", "", catalog.summary(kind, name), ""]
            table = definitions[f"{kind}.{name}"]
            table["properties"].pop("use")
            lines += _table(table, definitions) if table["properties"] else ["No options."]
            labels = getattr(catalog.part_class(kind, name), "labels", ())
            if labels:
                shown = ", ".join(f"`{label}`" for label in labels)
                lines += ["", f"Labels that a gate can bound (`{name}.LABEL_max`): {shown}."]
    return "\n".join(lines) + "\n"


def _verbs(command: Any, path: list[str]) -> Any:
    for name, verb in command.commands.items():
        if hasattr(verb, "commands"):
            yield from _verbs(verb, [*path, name])
        else:
            yield " ".join([*path, name]), verb


def _context(verb: Any, name: str) -> Any:
    return verb.make_context(name, [], resilient_parsing=True)


def _parameter(parameter: Any) -> str:
    if parameter.name == "help":
        return ""
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else []
    metavar = parameter.metavar or ("" if getattr(parameter, "is_flag", False) else "VALUE")
    shown = f"{', '.join(names)} {metavar}".strip() if is_option else metavar or parameter.name
    default = parameter.default
    is_plain = isinstance(default, str | int | float | list) and not isinstance(default, bool)
    value = f"`{default}`" if is_plain and default not in ("", []) else ""
    return (
        f"| `{shown}` | {_line(parameter.help)} | {'required' if parameter.required else value} |"
    )


def _section(path: str, body: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """The keys of a section, then of the tables in it."""
    lines = ["", _line(body.get("description")), "", *_table(body, definitions)]
    for key, value in body["properties"].items():
        inner = _resolve(value, definitions)
        if inner.get("type") == "object" and "properties" in inner and path.count(".") == 0:
            lines += ["", f"### {path}.{key}"]
            lines += _section(f"{path}.{key}", inner, definitions)
    return lines


def _table(table: dict[str, Any], definitions: dict[str, Any], nested: bool = True) -> list[str]:
    required = table.get("required", [])
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in table["properties"].items():
        meaning = _line(value.get("description") or _resolve(value, definitions).get("description"))
        default = "required" if key in required else ""
        if "default" in value:
            default = f"`{json.dumps(value['default'], ensure_ascii=False)}`"
        name = f"[`{key}`](#{key})" if not nested and key in SECTIONS else f"`{key}`"
        lines.append(f"| {name} | {_type(value, definitions)} | {default} | {meaning} |")
    return lines


def _type(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A schema in a few words."""
    kind = str(value.get("$ref", "")).rpartition("/")[2]
    if kind in catalog.KINDS:
        return f"[{kind}](parts.md#{kind})"
    if kind:
        return "table" if "enum" not in definitions[kind] else _type(definitions[kind], {})
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(one, definitions) for one in value["anyOf"]))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}), definitions)}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"table of {_type(value['additionalProperties'], definitions)}"
    words = {"integer": "integer", "number": "number", "boolean": "true or false"}
    words |= {"string": "text", "object": "table"}
    return words.get(str(value.get("type")), "any value")


def _resolve(value: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    kind = str(value.get("$ref", "")).rpartition("/")[2]
    if "anyOf" in value:
        return next((one for one in value["anyOf"] if one.get("type") == "object"), value)
    return definitions[kind] if kind in definitions and kind not in catalog.KINDS else value


def _line(text: str | None) -> str:
    """A text as one cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
