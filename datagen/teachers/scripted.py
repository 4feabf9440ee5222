"""Answer from a script instead of a model, for tests and dry runs; its replies say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from datagen.spending.limits import Budget, Reservation
from datagen.spending.pricing import FREE, Price, most_prompt_tokens
from datagen.teacher import Reply, Request, Usage
from warehouse.records import make_id


@dataclass
class Scripted:
    """A fake teacher that replies by rule; the pipeline treats it like a real one."""

    replies: dict[str, str] = field(default_factory=dict)
    """Text found in the last message -> reply; the first that is found wins."""
    default: str = ""
    """The reply where nothing is found."""
    latency_s: float = 0.0
    """Seconds per reply."""
    log: str | None = None
    """A file that gets one line (the call id) per request, for counting."""

    @property
    def identity(self) -> str:
        """Hash of the script."""
        return f"scripted:{make_id(self.replies, self.default)[:12]}"

    def check(self) -> list[str]:
        """Says that this is a fake."""
        return [f"scripted (a fake, {len(self.replies)} rules)"]

    price: ClassVar[Price] = FREE

    async def answer(
        self, requests: Sequence[Request], budget: Budget | None = None
    ) -> AsyncGenerator[Reply]:
        """Answer one after the other; what one takes at most is reserved in words."""
        budget = budget or Budget()
        for request in requests:
            most = Reservation(
                0.0, most_prompt_tokens(request.messages) + request.sampling.max_tokens
            )
            await budget.reserve(most)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if self.log:
                with open(self.log, "a", encoding="utf-8") as log:
                    log.write(request.call_id + "\n")
            question = str(request.messages[-1]["content"])
            text = next(
                (say for find, say in self.replies.items() if find in question), self.default
            )
            usage = Usage(sum(len(str(m["content"]).split()) for m in request.messages),
                          len(text.split()))  # fmt: skip
            budget.settle(most, 0.0, usage.prompt_tokens + usage.completion_tokens)
            yield Reply(request, text, "stop", usage, self.latency_s, 0.0, {"scripted": True})

    def close(self) -> None:
        """Nothing was started."""
