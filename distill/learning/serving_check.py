"""Check that an exported student gives the same answers as the trained one.

Every form answers the same held-out items, greedily, from the same messages. Merging
rounds and quantising rounds more, so near ties between two tokens can flip; the check
counts how often, and what it does to the score.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datagen.teacher import Request, Sampling
from datagen.teachers.local_gguf import LocalGguf
from quality.tasks.benchmark import Benchmark, Item
from train.model.inference import Generator
from warehouse.errors import ExportError
from warehouse.records import Message
from warehouse.text.normalize import normalise_answer
from warehouse.wording import format_count

Advance = Callable[[int], None]

_ROUNDED_UP_TO = 256
"""The context of a server's slot is a multiple of this."""


@dataclass(frozen=True)
class ServingReply:
    """One form's reply to one item."""

    text: str
    finish_reason: str
    prompt_tokens: int


@dataclass(frozen=True)
class Differing:
    """One item with different replies."""

    item_id: str
    question: str
    reference: list[str]
    adapter: str
    said: str
    prompt_tokens: tuple[int, int]  # the adapter's, this form's


@dataclass(frozen=True)
class ServingAgreement:
    """One form compared with the adapter on the same items.

    `same`: equal answers after normalisation; `identical`: equal to the letter, the end
    included. `score` and `adapter_score` are means of the headline metric over the items
    graded for both, None where there are none.
    """

    form: str
    n: int
    same: int
    identical: int
    metric: str
    score: float | None
    adapter_score: float | None
    prompts_differ: int
    least: float
    differing: list[Differing] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of items with the same answer."""
        return self.same / self.n

    @property
    def score_difference(self) -> float | None:
        """This form's score minus the adapter's."""
        if self.score is None or self.adapter_score is None:
            return None
        return self.score - self.adapter_score

    @property
    def fault(self) -> str | None:
        """The form's fault in one line; None if there is none."""
        if self.prompts_differ:
            first = next(item for item in self.differing if len(set(item.prompt_tokens)) > 1)
            return (
                f"{self.form} renders {self.prompts_differ} of {format_count(self.n, 'prompt')} to another number "
                f"of tokens ({first.prompt_tokens[1]} where the student was trained on "
                f"{first.prompt_tokens[0]}), so its prompts differ from those in training"
            )
        if self.share < self.least:
            return (
                f"{self.form} gives the adapter's answer to {self.same} of {format_count(self.n, 'item')} "
                f"({self.share:.1%}), less than {self.least:.0%}"
            )
        return None

    def row(self) -> dict[str, Any]:
        """As JSON-able values."""
        plain = asdict(self)
        figures = {"agreement": self.share, "score_difference": self.score_difference}
        return {**plain, **figures, "fault": self.fault}


def measure_agreement(
    form: str,
    replies: Sequence[ServingReply],
    adapter: Sequence[ServingReply],
    items: Sequence[Item],
    benchmark: Benchmark,
    least: float,
) -> ServingAgreement:
    """Compare a form's replies with the adapter's, item by item."""
    metric = benchmark.metrics[0]
    differing: list[Differing] = []
    same = identical = prompts_differ = 0
    grades: list[tuple[float, float]] = []
    for item, ours, theirs in zip(items, replies, adapter, strict=True):
        same += normalise_answer(ours.text) == normalise_answer(theirs.text)
        equal = (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
        identical += equal
        asked_alike = ours.prompt_tokens == theirs.prompt_tokens
        prompts_differ += not asked_alike
        if not (equal and asked_alike):
            tokens = (theirs.prompt_tokens, ours.prompt_tokens)
            row = item.row
            differing.append(
                Differing(item.item_id, row.prompt, row.reference, theirs.text, ours.text, tokens)
            )
        pair = [benchmark.grade(item, reply.text).values[metric] for reply in (ours, theirs)]
        if pair[0] is not None and pair[1] is not None:
            grades.append((pair[0], pair[1]))
    return ServingAgreement(
        form=form,
        n=len(items),
        same=same,
        identical=identical,
        metric=metric,
        score=sum(ours for ours, _ in grades) / len(grades) if grades else None,
        adapter_score=sum(theirs for _, theirs in grades) / len(grades) if grades else None,
        prompts_differ=prompts_differ,
        least=least,
        differing=differing,
    )


def ask_model(
    base: str,
    student: Path | None,
    conversations: Sequence[list[Message]],
    max_new_tokens: int,
    batch_size: int | None,
    advance: Advance,
) -> list[ServingReply]:
    """Generate a local model's replies, in order; in float32, to exclude the device's rounding."""
    generator = Generator(base, student, exact=True)
    generated = list(generator.answer(conversations, max_new_tokens, batch_size, advance))
    by_index = {
        reply.index: ServingReply(reply.text, reply.finish_reason, reply.prompt_tokens)
        for reply in generated
    }
    return [by_index[index] for index in range(len(conversations))]


def ask_gguf(
    file: Path,
    conversations: Sequence[list[Message]],
    max_new_tokens: int,
    longest_prompt: int,
    advance: Advance,
) -> list[ServingReply]:
    """Generate the replies of a GGUF behind its own server, in order.

    One at a time, since parallel requests round differently from run to run.

    Args:
        file: The GGUF.
        conversations: Chat messages; the server renders them with the GGUF's own template.
        max_new_tokens: Longest answer in tokens.
        longest_prompt: Tokens of the longest conversation, which size the server's context.
        advance: Called after each reply.

    Raises:
        TeacherUnusable: xllamacpp is missing, or the file cannot be served.
        ExportError: the server refused an item.
    """
    needed = longest_prompt + max_new_tokens + 1
    context = -(-needed // _ROUNDED_UP_TO) * _ROUNDED_UP_TO
    with closing(LocalGguf(str(file), slots=1, context=context)) as server:
        sampling = Sampling(temperature=0.0, max_tokens=max_new_tokens)
        requests = [Request.of(server.identity, list(c), sampling) for c in conversations]
        replies = asyncio.run(_collect(server, requests, advance))
    return [replies[request.subject] for request in requests]


async def _collect(
    server: LocalGguf, requests: Sequence[Request], advance: Advance
) -> dict[str, ServingReply]:
    replies: dict[str, ServingReply] = {}
    async for reply in server.answer(requests):
        if reply.error is not None:
            raise ExportError(f"the served GGUF refused an item of the check: {reply.error}")
        tokens = reply.usage.prompt_tokens
        replies[reply.request.subject] = ServingReply(reply.text, reply.finish_reason, tokens)
        advance(1)
    return replies
