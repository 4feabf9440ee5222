"""Score whether the teacher gives the same answer again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal

from quality.scoring.scorer import Question, Scorer, Verdict, need
from quality.text.claims import claims
from warehouse.canonical_json import canonical
from warehouse.records import Message, Sample
from warehouse.text import words
from warehouse.text.normalize import exact_match, normalise_answer, token_f1
from warehouse.wording import format_count

FIRST_SEED = 7001  # far from the seeds of the recipes: no reply is compared with itself


@dataclass
class SelfConsistency(Scorer):
    """Agreement of the completion with k further replies: SelfCheckGPT (Manakul et al. 2023).

    What a teacher knows it says again; what it made up differs from reply to reply. A short
    answer gets the share of replies that agree with it; a longer text the mean support of
    its sentences, each the share of its words that a reply holds too. That is a lexical
    relative of the n-gram variant (section 5.3): cheap, and blind to negation. A belief that
    is wrong but firm scores high. It fits recipes whose completion is the reply itself.
    """

    version: ClassVar[str] = "2"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    asks: ClassVar[str] = "teacher"
    reads_prompts: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ("answer", "sentence")

    k: int = 5
    """Further replies per question, each a paid call with a seed of its own; 2 or more."""
    temperature: float = 0.8
    """How freely the replies are drawn; above 0, or all would be the same."""
    max_tokens: int = 512
    """Longest further reply in tokens."""
    short_words: int = 12
    """A completion of at most so many words is compared as a whole, a longer one by sentence."""
    agree_f1: float = 0.8
    """Token F1 from which a reply agrees with the completion; equal ones always do."""
    over: Literal["mean", "worst"] = "mean"
    """Value of a longer text: the mean of its sentences, or the worst of them."""

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ValueError("k is 2 or more: one further reply shows no spread")
        if self.temperature <= 0:
            raise ValueError("temperature is above 0: at 0 all replies are the same")
        if self.max_tokens < 1:
            raise ValueError("max_tokens is 1 or more")
        if self.short_words < 0:
            raise ValueError("short_words is 0 or more")
        if not 0 < self.agree_f1 <= 1:
            raise ValueError("agree_f1 is above 0 and at most 1")

    @property
    def model(self) -> str:
        """The teacher, whose replies are compared."""
        return str(need(self.tools.teacher, self, "the plan's teacher").name)

    def calls_per_sample(self) -> int:
        """The further replies."""
        return self.k

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One agreement per sample; all replies of the batch are asked for in one call."""
        full = [sample.prompt_id for sample in samples if sample.completion.strip()]
        messages = self.tools.prompt_messages(list(dict.fromkeys(full))) if full else {}
        replies = self._replies(
            [messages[prompt_id] for prompt_id in full if prompt_id in messages]
        )
        for sample in samples:
            if not sample.completion.strip():
                yield Verdict(None, "no completion")
            elif sample.prompt_id not in messages:
                yield Verdict(None, "the messages that the teacher was asked are not on hand")
            else:
                yield self._verdict(
                    sample.completion, replies[canonical(messages[sample.prompt_id])]
                )

    def _replies(self, prompts: Sequence[list[Message]]) -> Mapping[str, dict[int, str]]:
        """Canonical messages -> {seed: reply}; what failed or is blank is left out."""
        teacher = need(self.tools.teacher, self, "the plan's teacher")
        distinct = {canonical(messages): messages for messages in prompts}
        seeds = range(FIRST_SEED, FIRST_SEED + self.k)
        questions = [
            Question(messages, self.max_tokens, self.temperature, seed)
            for messages in distinct.values()
            for seed in seeds
        ]
        replies = iter(teacher(questions) if questions else [])
        return {
            key: {seed: text for seed in seeds if (text := (next(replies) or "").strip())}
            for key in distinct
        }

    def _verdict(self, completion: str, replies: Mapping[int, str]) -> Verdict:
        came = f"{len(replies)} of {format_count(self.k, 'reply')} came back"
        if len(replies) < 2:
            return Verdict(None, came, failed=True)
        agreed = [seed for seed, reply in replies.items() if self._agree(reply, completion)]
        labels = {"answer": len(agreed) / len(replies)}
        details = {"replies": len(replies), "agreed": agreed, "labels": labels}
        supports = _supports(completion, list(replies.values()))
        if supports:
            worst = min(supports, key=lambda pair: pair[1])
            mean = fmean(support for _, support in supports)
            labels["sentence"] = mean if self.over == "mean" else worst[1]
            details["sentences"] = [round(support, 4) for _, support in supports]
            details["worst"] = worst[0][:200].encode("utf-8", "replace").decode()
        short = len(words.words(completion)) <= self.short_words
        value = labels["answer"] if short else labels.get("sentence", labels["answer"])
        return Verdict(value, came if len(replies) < self.k else None, details)

    def _agree(self, reply: str, completion: str) -> bool:
        if not normalise_answer(completion):  # "A", "The": an article is all there is
            return reply.strip().casefold() == completion.strip().casefold()
        return bool(exact_match(reply, completion) or token_f1(reply, completion) >= self.agree_f1)


def _supports(completion: str, replies: Sequence[str]) -> list[tuple[str, float]]:
    """(sentence, mean share of its words that a reply holds too); one without words is left out."""
    known = [set(words.words(words.caseless(reply))) for reply in replies]
    supports = []
    for sentence in claims(completion):
        wanted = words.words(words.caseless(sentence))
        if wanted:
            held = sum(word in reply for reply in known for word in wanted)
            supports.append((sentence, held / (len(wanted) * len(known))))
    return supports
