"""Check a plan against its base's own files before a teacher is paid: template, context, layers.

Only what is on this machine is read, and torch is not imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from datagen.spending.pricing import count_prompt_tokens, load_tokenizer
from distill.plan.plan import Plan
from distill.plan.sections import TrainSection
from train.methods.peft_layers import names_in
from train.model.base_model import find_base, module_names, reach_hub
from train.model.chat_template import ChatTemplate, opens_a_thought, read_json
from train.model.tool_template import INSTEAD, tools_fault
from warehouse.catalog import name_of
from warehouse.errors import AssetError, ModelError
from warehouse.inputs.rows import Row, question_messages
from warehouse.records import Message, Prompt
from warehouse.wording import format_count

CHECKED_PROMPTS = 2000
"""So many prompts are rendered and counted; the rest is of the same kinds."""

_SURELY_LONG = 100  # bytes for each token that is allowed: no text of words is shorter in tokens
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings")
_OUTPUTS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens with the base's tokenizer where it is on this machine, else bytes / 4."""

    tokenizer: Any = None

    @classmethod
    def of(cls, plan: Plan) -> TokenCounter:
        """The counter for a plan's base."""
        folder = find_base(plan.training.base) if plan.train else None
        return cls.in_folder(folder)

    @classmethod
    def in_folder(cls, folder: Path | None) -> TokenCounter:
        """The counter for a base in a folder."""
        known = folder is not None and (folder / "tokenizer.json").is_file()
        return cls(load_tokenizer(folder) if folder is not None and known else None)

    @property
    def how(self) -> str:
        """How a count was made, where it is an estimate."""
        return "" if self.tokenizer is not None else " (bytes / 4, the base is not on this machine)"

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of a conversation, its roles at four tokens each."""
        return count_prompt_tokens(messages, self.tokenizer)

    def is_longer(self, row: Row, limit: int | None) -> bool:
        """Whether the question of a row has more tokens than the limit."""
        if limit is None:
            return False
        messages = question_messages(row)
        size = sum(len(message["content"]) for message in messages)
        return size > _SURELY_LONG * limit or self.count(messages) > limit


def check_base(
    plan: Plan,
    prompts: Iterable[Prompt],
    section: TrainSection | None = None,
    ask_hub: bool = False,
) -> list[str]:
    """Check what training would refuse or quietly change, one line for each thing to know.

    Args:
        plan: The plan; without a `[train]` section there is nothing to check.
        prompts: Those of the plan's recipes.
        section: Stands for the plan's own [train].
        ask_hub: Whether to ask the hub for a base that is not on this machine.

    Raises:
        AssetError: the base is no asset, folder or hub id, or its folder holds no chat model.
        ModelError: the template, the context or the layers of the base do not fit the plan.
    """
    if plan.train is None:
        return []
    section = section or plan.training
    folder = find_base(section.base)
    if folder is None:
        unreached = reach_hub(section.base) if ask_hub else None
        return (
            [
                f"base '{section.base}' is not on this machine and the hub does not answer ({unreached}); "
                "its template, context and layers are checked once it is fetched"
            ]
            if unreached
            else []
        )
    _check_targets(section, folder)
    template = ChatTemplate.in_folder(folder)
    if template is None:
        raise AssetError(
            f"base '{section.base}' has no chat template; use an instruction-tuned model"
        )
    checked = list(islice(prompts, CHECKED_PROMPTS))
    return [
        *_check_template(section.base, template, checked),
        *_check_tools(plan, section.base, template),
        *_check_context(plan, section, folder, checked),
    ]


def _check_template(base: str, template: ChatTemplate, prompts: Sequence[Prompt]) -> list[str]:
    """Render one prompt of each sequence of roles, and compare with what training would see."""
    from jinja2 import TemplateError, TemplateSyntaxError

    kinds: Counter[tuple[str, ...]] = Counter()
    examples: dict[tuple[str, ...], list[Message]] = {}
    for prompt in prompts:
        roles = tuple(message["role"] for message in prompt.student_messages)
        kinds[roles] += 1
        examples.setdefault(roles, prompt.student_messages)
    notes = []
    for roles, messages in examples.items():
        number = f"{kinds[roles]:,} of {format_count(len(prompts), 'prompt')}"
        try:
            asked = template.render(messages)
            trained = template.render([*messages, {"role": "assistant", "content": "x"}], False)
        except TemplateSyntaxError:
            return []  # a dialect of its own; training renders it with the tokenizer
        except TemplateError as error:
            if "system" in roles:
                what = f"takes no system message ({error}), and {number} have one; "
                what += "put the instruction into the user's message"
            else:
                what = f"refuses a conversation of {', '.join(roles)} ({error}), as {number} are; "
                what += "leave such rows out"
            raise ModelError(
                f"the chat template of base '{base}' {what}, or use another base"
            ) from None
        except (TypeError, ValueError, AttributeError, KeyError):
            return []  # it wants more than a template's usual surroundings
        lost = [message["role"] for message in messages if message["content"].strip() not in asked]
        if lost:
            notes.append(
                f"the chat template of base '{base}' leaves out the {lost[0]} message, which {number} "
                "have: the student would not see it; put it into the user's message, or use another base"
            )
        thinks = opens_a_thought(asked)
        if not trained.startswith(asked):
            what = "opens a think block before each answer" if thinks else "renders a prompt"
            raise ModelError(
                f"the chat template of base '{base}' {what} "
                f"{'and' if thinks else 'differently'} in use {'only, not' if thinks else 'and'} in "
                "training; use a base that is no reasoning model, or one whose template with a "
                "generation prompt is the beginning of the full text"
            )
        if thinks:
            notes.append(
                f"the chat template of base '{base}' opens a think block before each answer, so the "
                "student would answer within it; use a base that is no reasoning model"
            )
    return list(dict.fromkeys(notes))


def _check_tools(plan: Plan, base: str, template: ChatTemplate) -> list[str]:
    """See whether the template knows tools, where a recipe makes tool calls."""
    names = [name_of(recipe) for recipe in plan.datagen.recipe if recipe.has_tools]
    if not names:
        return []
    fault = tools_fault(lambda messages, tools: template.render(messages, False, tools))
    if fault is None:
        return []
    return [
        f"the chat template of base '{base}' {fault}, so what recipe '{names[0]}' makes cannot be "
        f"trained on; {INSTEAD}"
    ]


def _check_context(
    plan: Plan, section: TrainSection, folder: Path, prompts: Sequence[Prompt]
) -> list[str]:
    config = read_json(folder / "config.json")
    context = config.get("max_position_embeddings") or config.get("n_positions")
    context = context or (config.get("text_config") or {}).get("max_position_embeddings")
    if not isinstance(context, int):
        return []
    counter, new = TokenCounter.in_folder(folder), plan.evaluate.max_new_tokens
    counts = [counter.count(prompt.student_messages) for prompt in prompts]
    over = [count for count in counts if count + new > context]
    if over:
        line = (
            f"base '{section.base}' holds {context} tokens, and {len(over):,} of "
            f"{format_count(len(counts), 'prompt')} need more with evaluate.max_new_tokens = {new} "
            f"(the longest has {max(counts):,}); shorten them, lower max_new_tokens, or use a base "
            "with a longer context"
        )
        if len(over) == len(counts):
            raise ModelError(line)
        return [line]
    room, reply = min(context, section.max_length), plan.datagen.sampling.max_tokens
    cut = sum(count + reply > room for count in counts)
    if cut:
        holds = (
            f"train.max_length = {section.max_length}"
            if section.max_length <= context
            else f"base '{section.base}'"
        )
        return [
            f"{holds} holds {room} tokens, and {cut:,} of {format_count(len(counts), 'prompt')} need "
            f"more with a reply of datagen.sampling.max_tokens = {reply} (the longest has "
            f"{max(counts):,}); lower max_tokens, or such rows may be cut off"
        ]
    return []


def _check_targets(section: TrainSection, folder: Path) -> None:
    """See that the tuner's targets are layers that it may change.

    Raises:
        ModelError: one is no layer, or shares its weights with the output layer.
    """
    named = names_in(getattr(section.tuner, "targets", ""))
    if isinstance(named, str) or not named:
        return
    modules = module_names(folder)
    last = {module.rpartition(".")[2] for module in modules}
    has_output = bool(last & set(_OUTPUTS))
    tied = read_json(folder / "config.json").get("tie_word_embeddings", not has_output)
    inner = {m.rpartition(".")[2] for m in modules if any(part.isdigit() for part in m.split("."))}
    layers = sorted(name for name in inner if "norm" not in name and "ln" not in name)
    tuner = name_of(section.tuner)
    for target in named:
        last_part = target.rpartition(".")[2]
        if last_part in _OUTPUTS or (tied and last_part in _EMBEDDINGS):
            what = "the output layer" if last_part in _OUTPUTS else "the embeddings"
            shared = ", whose weights are tied to one another" if tied else ""
            raise ModelError(
                f"{tuner}: targets names '{target}', {what} of base '{section.base}'{shared}; a "
                f"training here leaves it as it is; allowed: {', '.join(layers)}"
            )
        if not any(f".{module}".endswith(f".{target}") for module in modules):
            close = get_close_matches(target, layers, n=1, cutoff=0.6)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ModelError(
                f"{tuner}: no layer of base '{section.base}' is called '{target}'{hint} "
                f"(there are {', '.join(layers)})"
            )
