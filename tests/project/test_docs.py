"""Check what the docs show: commands, plans, links, the schema and the built site."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from datagen.recipe import PoolRecipe
from distill.plan.plan import Plan, load_plan
from distill.plan.preflight import refuse_unmeasurable_conditions
from distill.plan.schema import plan_schema
from flows.cli import app
from warehouse import catalog

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "AGENTS.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
SHIPPED = ROOT / "distill" / "plans" / "plan.schema.json"
BLOCK = re.compile(
    r"(?P<part><!-- part of plan -->\n)?^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
BASE_PLAN = {
    "name": "base",
    "teacher": {"use": "scripted"},
    "datagen": {"recipe": [{"use": "imitation", "prompts": "prompts.jsonl"}]},
}
CHEAP = (
    "init",
    "check",
    "new",
    "list",
    "schema",
    "--version",
)  # the verbs that are run, not only parsed
FREE = "teacher=scripted"  # a check with it asks no server and needs no download


def _ids(files: list[Path]) -> list[str]:
    return [file.relative_to(ROOT).as_posix() for file in files]


def _blocks(page: Path) -> Iterator[re.Match[str]]:
    return BLOCK.finditer(page.read_text(encoding="utf-8"))


def _commands(text: str) -> Iterator[list[str]]:
    """The `distill` commands of a console block, one per `$` line."""
    for line in text.splitlines():
        if line.startswith("$ "):
            for command in re.split(r"\s\|\s", line[2:]):
                words = shlex.split(command, comments=True)
                if words and words[0] == "distill":
                    yield words[1 : words.index(">") if ">" in words else None]


def _parse(words: list[str]) -> None:
    """Parse a command without running it; raises where a verb or an option does not exist."""
    command: Any = get_command(app)
    rest = list(words)
    if rest[0].startswith("--"):
        assert CliRunner().invoke(app, rest).exit_code == 0
        return
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context("distill", rest)


def _faults(plan: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(plan_schema())
    return [f"{'.'.join(map(str, e.path))}: {e.message[:300]}" for e in validator.iter_errors(plan)]


def _merged(plan: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    merged = dict(plan)
    for key, value in part.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_every_command_in_the_docs_exists(page: Path) -> None:
    for block in _blocks(page):
        assert block["kind"] not in ("bash", "sh", "shell"), (
            "use ```console with `$ ` before commands"
        )
        for words in _commands(block["text"]):
            try:
                _parse(words)
            except Exception as error:
                pytest.fail(f"distill {shlex.join(words)}: {error!r}")


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_every_plan_in_the_docs_loads(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block after `<!-- part of plan -->` is merged into a plan that has what it leaves out."""
    monkeypatch.chdir(tmp_path)
    for block in _blocks(page):
        for words in _commands(block["text"]):
            if words[0] == "new":  # the parts that the page's plans use
                assert CliRunner().invoke(app, words).exit_code == 0
        if block["kind"] != "toml":
            continue
        given = tomllib.loads(block["text"])
        whole = json.loads(json.dumps(_merged(BASE_PLAN, given) if block["part"] else given))
        assert _faults(whole) == []
        scope = catalog.PlanScope(tmp_path)
        plan = Plan.model_validate_json(json.dumps(whole), strict=True, context=scope)
        plan.require("run" if plan.train and plan.evaluate.benchmarks else "generate")
        if not block["part"]:
            refuse_unmeasurable_conditions(plan)


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_cheap_commands_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks with a title are the files of the page's project; output that is shown is compared."""
    monkeypatch.chdir(tmp_path)
    for block in _blocks(page):
        if block["title"]:
            (tmp_path / block["title"]).write_text(block["text"], encoding="utf-8")
        if block["kind"] != "console":
            continue
        for words in _commands(block["text"]):
            if words[0] not in CHEAP or (words[0] == "check" and FREE not in words):
                continue
            result = CliRunner().invoke(app, words, prog_name="distill")
            assert result.exit_code == 0, f"distill {shlex.join(words)}: {result.exception!r}"
            shown = (
                block["text"].partition(f"$ distill {shlex.join(words)}\n")[2].partition("\n$ ")[0]
            )
            if words[0] in ("init", "check", "new") and shown.strip():
                assert _without_hash(result.stdout) == _without_hash(shown)


def _without_hash(output: str) -> str:
    """A plan's hash changes with every new key."""
    return re.sub(r"\([0-9a-f]{12}\)", "(HASH)", output.strip())


def test_the_docs_have_commands_and_plans() -> None:
    """So that a change of style cannot leave the tests above with nothing to look at."""
    kinds = [block["kind"] for page in PAGES for block in _blocks(page)]
    assert kinds.count("console") >= 15
    assert kinds.count("toml") >= 10


@pytest.mark.parametrize("file", EXAMPLES, ids=_ids(EXAMPLES))
def test_every_example_loads(file: Path) -> None:
    plan = load_plan(file)
    verb = "run" if plan.evaluate.benchmarks else "train" if plan.train else "generate"
    plan.require(verb)
    refuse_unmeasurable_conditions(plan)
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    assert _faults(data) == []
    (first, *_) = file.read_text(encoding="utf-8").splitlines()
    assert (file.parent / first.removeprefix("#:schema ")).resolve() == SHIPPED
    for recipe in plan.datagen.recipe:
        source = getattr(recipe, "prompts", None) or getattr(recipe, "passages", None) or ""
        if "sciq" in str(source):
            continue  # it would be downloaded
        if isinstance(recipe, PoolRecipe):
            assert recipe.next_round(0, recipe.begin(plan.folder))
        else:
            assert next(recipe.seeds(plan.folder, {}))
    for benchmark in plan.evaluate.benchmarks:
        if catalog.name_of(benchmark) == "custom":
            assert list(benchmark.items(plan.folder))


def test_there_are_examples() -> None:
    names = {file.stem for file in EXAMPLES}
    assert names >= {
        "openai",
        "vllm",
        "ollama",
        "embedded",
        "own_prompts",
        "judge",
        "schedule",
        "sciq",
    }


def test_the_shipped_schema_is_the_generated_one() -> None:
    """`UPDATE_GOLDEN=1` rewrites it."""
    result = CliRunner().invoke(app, ["schema"])
    if os.environ.get("UPDATE_GOLDEN"):
        SHIPPED.write_text(result.stdout, encoding="utf-8")
    assert result.stdout == SHIPPED.read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(result.stdout))


@pytest.mark.parametrize(
    "wrong",
    [
        {"nmae": "x"},
        {"datagen": {"bugdet_usd": 1.0}},
        {"datagen": {"budget_usd": "1"}},
        {"quality": {"scorers": ["toxicty"]}},
        {"quality": {"scorers": [{"use": "judge", "mode": "facts"}]}},
        {"quality": {"gate": {"grounded_minimum": 1.0}}},
        {"quality": {"gate": {"toxicity": {"insults_max": 0.5}}}},
        {"train": {"epochs": 1}},
        {"train": {"base": "b", "tuner": {"use": "lora", "rnak": 4}}},
        {"evaluate": {"robustness": True}},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_what_a_plan_refuses(wrong: dict[str, Any]) -> None:
    assert _faults(_merged(BASE_PLAN, wrong)) != []
    with pytest.raises(ValueError, match="validation error"):
        Plan.model_validate_json(json.dumps(_merged(BASE_PLAN, wrong)), strict=True)


@pytest.mark.parametrize(
    "right",
    [
        {"quality": {"scorers": ["./brevity.py", {"use": "./b.py:Brevity", "words": 5}]}},
        {"quality": {"scorers": ["package/name"], "gate": {"name_min": 0.5}}},
        {"quality": {"gate": {"toxicity": {"insult_max": 0.5}, "recipe": {}}}},
        {"evaluate": {"robustness": False, "benchmarks": ["lm_eval:gsm8k"]}},
    ],
    ids=json.dumps,
)
def test_the_schema_takes_parts_from_elsewhere_and_short_forms(right: dict[str, Any]) -> None:
    assert _faults(_merged(BASE_PLAN, right)) == []


def test_every_key_has_a_description() -> None:
    """It is what an editor shows, and the reference page prints."""
    schema = plan_schema()
    tables = {"plan": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, table in tables.items()
        for key, value in table.get("properties", {}).items()
        if "description" not in value and "$ref" not in value
        and not key.endswith(("_min", "_max"))
    ]  # fmt: skip
    assert silent == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; a broken link or reference is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_documents_every_verb_part_and_key(site: Path) -> None:
    def page(name: str) -> str:
        return (site / "reference" / f"{name}.html").read_text(encoding="utf-8")

    verbs, parts, plan = page("verbs"), page("parts"), page("plan")
    for verb in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"<code>{verb}" in verbs, verb
    for kind in catalog.KINDS:
        for name in catalog.names(kind):
            assert f'id="{kind}-{name}"' in parts, (kind, name)
            for option in catalog.option_names(kind, name):
                assert f"<code>{option}</code>" in parts, (kind, name, option)
    for section in Plan.model_fields:
        assert f"<code>{section}</code>" in plan, section
    for key in plan_schema()["$defs"]["TrainSection"]["properties"]:
        assert f"<code>{key}</code>" in plan, key


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?(?:https?:)?//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 15
    assert [page.name for page in pages if loads.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Links inside the site are checked by its build; these are the files of the repository."""
    generated = {"verbs.md", "plan.md", "parts.md"} if "docs" in page.parts else set()
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto")) and Path(target).name not in generated:
            assert (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 700
