"""Let a model of a folder or the hub teach, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from datagen.spending.limits import Budget, Reservation
from datagen.spending.pricing import FREE, Price, Usage, most_prompt_tokens
from datagen.teacher import Reply, Request
from train.model.base_model import base_fingerprint, resolve_base
from train.model.inference import Generator
from warehouse.errors import PromptRejected, TeacherUnusable

_AT_ONCE = 16
"""Requests that are reserved together in a budget, and lost together when the process is killed."""


@dataclass
class LocalTeacher:
    """A model that is loaded as a base is, and replies greedily."""

    model: str
    """A folder or hub id."""
    _generator: list[Generator] = field(default_factory=list, init=False, repr=False)

    price: ClassVar[Price] = FREE

    @cached_property
    def identity(self) -> str:
        """Its weights: of a hub id the id."""
        return f"local_model:{base_fingerprint(self.model)}"

    def check(self) -> list[str]:
        """Whether the model is available; it is downloaded, not loaded.

        Raises:
            AssetError: it could not be downloaded.
        """
        resolve_base(self.model)
        return [f"{self.model}, loaded on this machine, free of charge"]

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """Reply in batches, requests of one length limit together.

        Raises:
            TeacherUnusable: a sampling asks for more than a greedy text.
        """
        budget = budget or Budget()
        if any(r.sampling.temperature or r.sampling.top_logprobs is not None for r in requests):
            raise TeacherUnusable(
                f"{self.model} generates greedily here: set datagen.sampling.temperature = 0 and no "
                "top_logprobs, or serve it and name it in [evaluate.endpoints]"
            )
        if not self._generator:
            self._generator.append(Generator(self.model))
        generator = self._generator[0]
        for limit in sorted({request.sampling.max_tokens for request in requests}):
            batch = [request for request in requests if request.sampling.max_tokens == limit]
            too_long = generator.too_long([request.messages for request in batch], limit)
            for index, reason in too_long.items():
                yield Reply(batch[index], error=PromptRejected(f"the prompt {reason}"))
            fitting = [one for index, one in enumerate(batch) if index not in too_long]
            for start in range(0, len(fitting), _AT_ONCE):
                part = fitting[start : start + _AT_ONCE]
                tokens = sum(most_prompt_tokens(one.messages) + limit for one in part)
                reserved = await budget.reserve(Reservation(0.0, tokens))
                made = list(generator.answer([one.messages for one in part], limit))
                used = sum(one.prompt_tokens + one.completion_tokens for one in made)
                budget.settle(reserved, 0.0, used)
                for one in made:
                    request = part[one.index]
                    text = cut_at(one.text, request.sampling.stop)
                    usage = Usage(one.prompt_tokens, one.completion_tokens)
                    yield Reply(request, text, one.finish_reason, usage, one.latency_s, 0.0)

    def close(self) -> None:
        """Forget the model."""
        self._generator.clear()


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop text."""
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
