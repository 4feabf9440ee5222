"""Check that a recipe keeps the contract of all recipes.

Each function raises AssertionError with the fault, so it works with any test runner.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from datagen.recipe import Recipe
from datagen.teacher import Reply, Request, Sampling
from warehouse.catalog import name_of
from warehouse.inputs.rows import Row
from warehouse.records import Prompt, Sample

STRANGE_REPLIES = ("", " \n\t ", "\x00\x07", "I cannot help with that.", "x" * 100_000)  # fmt: skip
"""Replies that a recipe must cope with."""

_STATUSES = ("ok", "refused", "truncated", "invalid")
_ROLES = ("system", "user", "assistant")
_ROW = Row("What colour is the sky?", [{"role": "user", "content": "What colour is the sky?"}])


def check_recipe(
    recipe: Recipe, folder: Path, replies: Sequence[str] = ("blue",), few: int = 100
) -> list[Sample]:
    """Make prompts, parse replies and check the contract of a recipe.

    The same prompts each time, each once, all of them conversations that end with a question;
    at least one sample of every reply, whatever it is, with a status and a reason where that is
    not ok; never an ok sample of an empty or a failed reply.

    Args:
        recipe: The recipe.
        folder: Where its relative paths start.
        replies: Valid replies; each must give a sample with status 'ok'.
        few: Number of prompts to check.

    Returns:
        The samples of `replies` to the first prompt.
    """
    _require(isinstance(recipe.version, str), "version is not a text")
    prompts = list(islice(recipe.ask_all(folder), few))
    ids = [prompt.prompt_id for prompt in prompts]
    _require(bool(prompts), "there are no prompts")
    again = [prompt.prompt_id for prompt in islice(recipe.ask_all(folder), few)]
    _require(ids == again, "other prompts each time; draw from a seed, not from chance")
    _require(len(set(ids)) == len(ids), "a prompt comes twice, and would be asked once")
    for prompt in [*prompts, recipe.ask(_ROW, folder)]:
        _check_prompt(recipe, prompt)
    messages = recipe.context(_ROW, folder)
    _require(all(item.get("role") in _ROLES for item in messages), "a message has no known role")
    for text in STRANGE_REPLIES:
        for sample in _samples(recipe, prompts[0], _reply(prompts[0], text)):
            _require(
                bool(sample.completion.strip()) or sample.status != "ok",
                f"the empty completion of the reply {text[:20]!r} must not have status 'ok'",
            )
    cut = replace(_reply(prompts[0], replies[0] if replies else "x"), finish_reason="length")
    for sample in _samples(recipe, prompts[0], cut):
        _require(sample.status != "ok", "ok of a reply that reached max_tokens; call it truncated")
    accepted = []
    for text in replies:
        samples = _samples(recipe, prompts[0], _reply(prompts[0], text))
        _require(any(item.status == "ok" for item in samples), f"no ok sample of {text[:40]!r}")
        accepted += samples
    return accepted


def _check_prompt(recipe: Recipe, prompt: Prompt) -> None:
    _require(prompt.recipe == name_of(recipe), f"a prompt's recipe is '{prompt.recipe}'")
    for messages in (prompt.messages, prompt.student_messages):
        _require(bool(messages), "a prompt has no messages")
        _require(
            all(message.get("role") in _ROLES for message in messages),
            "a message has no known role",
        )
        _require(messages[-1]["role"] == "user", "the last message is not the user's")
        json.dumps(messages)


def _reply(prompt: Prompt, text: str) -> Reply:
    return Reply(Request.of("conformance", prompt.messages, Sampling()), text)


def _samples(recipe: Recipe, prompt: Prompt, reply: Reply) -> list[Sample]:
    samples = list(recipe.samples(prompt, reply))
    _require(bool(samples), "a reply gives no sample; give one with a status")
    for sample in samples:
        _require(sample.status in _STATUSES, f"status '{sample.status}'; use {_STATUSES}")
        _require(
            sample.status == "ok" or bool(sample.status_reason),
            f"a sample is {sample.status} and has no status_reason",
        )
        _require(sample.prompt_id == prompt.prompt_id, "a sample is of another prompt")
        _require(sample.call_ids == [reply.request.call_id], "call_ids are not those of the reply")
        _require(
            sample.recipe_version == recipe.version, "recipe_version is not the recipe's version"
        )
    return samples


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
