"""Score the completion with another language model as the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal

from quality.scoring import judge_prompts as asking
from quality.scoring.judge_prompts import ClaimVerdict, PairVerdict, Rating, Structured
from quality.scoring.scorer import Question, Scorer, Verdict, need
from warehouse.canonical_json import canonical
from warehouse.catalog import ADDED_LATER
from warehouse.inputs.question_wording import Language
from warehouse.records import Message, Sample

NO_REPLY = "the judge gave no reply"


@dataclass
class Judge(Scorer):
    """A language model as judge: FActScore (Min et al. 2023), G-Eval (Liu et al. 2023).

    `claims`: the judge takes the completion apart into atomic claims (FActScore, section 3)
    and holds each against the evidence; the value is the share supported. A verdict whose
    quote does not stand in the evidence counts as unsupported. `rubric`: a mark from 1 to 5
    (G-Eval, section 2). `pairwise`: completion against reference, asked in both orders; a
    preference that follows the position is a tie (Zheng et al. 2023, sections 3.3 and 3.4).
    """

    # Raise it when a prompt, a schema or the way a verdict counts changes.
    version: ClassVar[str] = "1"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    asks: ClassVar[str] = "judge"
    labels: ClassVar[tuple[str, ...]] = (
        "contradicted", "not_enough_information", "unquoted", "consistent",
    )  # fmt: skip

    mode: Literal["claims", "rubric", "pairwise"] = "claims"
    """Claims against the evidence, a mark by a rubric, or the completion against the reference."""
    rubric: str = asking.RUBRIC
    """What the marks from 1 to 5 mean, for mode "rubric"."""
    own_knowledge: bool = False
    """Without passage and reference, let the judge verify claims by what it knows."""
    max_claims: int = 100
    """A completion with more claims is left unjudged; each claim is one question."""
    max_chars: int = 20_000
    """A longer completion, question or evidence is left unjudged."""
    max_tokens: int = 1024
    """Longest reply of the judge in tokens."""
    structured: bool = True
    """Send the JSON schema as `response_format`; false asks for JSON in words only."""
    language: Language = field(default="en", metadata=ADDED_LATER)
    """The judge is asked in this language, "en" or "zh". Unset: the plan's `language`."""

    def __post_init__(self) -> None:
        if not self.rubric.strip():
            raise ValueError("rubric is a text; leave it out for the default one")
        if min(self.max_claims, self.max_chars, self.max_tokens) < 1:
            raise ValueError("max_claims, max_chars and max_tokens are 1 or more")

    @property
    def model(self) -> str:
        """The judge and how it was asked."""
        return f"{need(self.tools.judge, self, 'a judge').name} {self.mode}"

    @property
    def note(self) -> str | None:
        """Says so where the teacher judges itself: models favour what they wrote."""
        teacher, judge = self.tools.teacher, self.tools.judge
        if teacher is None or judge is None or teacher.name != judge.name:
            return None
        return "the judge is the teacher itself; models favour their own answers"

    def calls_per_sample(self) -> int:
        """Extraction and one claim, one rating, or one verdict for each order."""
        return 1 if self.mode == "rubric" else 2

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """One verdict per sample; each step asks all its questions of the batch in one call."""
        unfit = [self._unfit(sample) for sample in samples]
        fit = [sample for sample, why in zip(samples, unfit, strict=True) if why is None]
        by_mode = {"claims": self._claims, "rubric": self._rubric, "pairwise": self._pairwise}
        verdicts = iter(by_mode[self.mode](fit))
        for why in unfit:
            yield next(verdicts) if why is None else Verdict(None, why)

    def _unfit(self, sample: Sample) -> str | None:
        """Why a sample is not worth a question; None where it is."""
        if not sample.completion.strip():
            return "no completion"
        if self.mode == "pairwise" and not any(text.strip() for text in sample.reference):
            return "no reference"
        if self.mode == "claims" and not self.own_knowledge and _evidence(sample)[1] is None:
            return "no evidence: neither passage nor reference"
        texts = {"completion": sample.completion, "question": sample.question}
        if self.mode == "claims":
            texts["evidence"] = _evidence(sample)[1] or ""
        else:
            texts["reference"] = "\n".join(sample.reference)
        if self.mode == "rubric":
            texts["passage"] = sample.passage or ""
        for name, text in texts.items():
            if len(text) > self.max_chars:
                return f"{name}: {len(text)} characters, more than max_chars = {self.max_chars}"
        return None

    def _ask(
        self, prompts: Sequence[list[Message]], kind: type[Structured]
    ) -> list[Structured | str]:
        """The verdict of each prompt, or in its place the reason why there is none."""
        judge = need(self.tools.judge, self, "a judge")
        form = asking.response_format(kind) if self.structured else None
        distinct = {canonical(messages): messages for messages in prompts}
        questions = [
            Question(messages, self.max_tokens, response_format=form)
            for messages in distinct.values()
        ]
        replies = judge(questions) if questions else []
        read = dict(zip(distinct, (_read(kind, reply) for reply in replies), strict=True))
        return [read[canonical(messages)] for messages in prompts]

    def _claims(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        texts = [
            asking.extract_claims(sample.question, sample.completion, self.language)
            for sample in samples
        ]
        listed = [self._listed(answer) for answer in self._ask(texts, asking.Claims)]
        checks = [
            asking.verify_claim(sample.question, claim, _evidence(sample)[1], self.language)
            for sample, claims in zip(samples, listed, strict=True)
            if not isinstance(claims, str)
            for claim in claims
        ]
        verdicts = iter(self._ask(checks, ClaimVerdict))
        for sample, claims in zip(samples, listed, strict=True):
            if isinstance(claims, str):
                yield _none(claims)
            else:
                yield _supported(sample, claims, list(islice(verdicts, len(claims))))

    def _listed(self, answer: asking.Claims | str) -> list[str] | str:
        """The distinct claims, or why there are none to verify."""
        if isinstance(answer, str):
            return f"claims: {answer}"
        distinct: dict[str, str] = {}
        for claim in filter(None, map(str.strip, answer.claims)):
            distinct.setdefault(claim.casefold(), asking.clean(claim))
        if not distinct:
            return "the judge found no claim"
        if len(distinct) > self.max_claims:
            return f"{len(distinct)} claims, more than max_claims = {self.max_claims}"
        return list(distinct.values())

    def _rubric(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        prompts = [
            asking.rate_answer(
                self.rubric, s.question, s.completion, s.passage, s.reference, self.language
            )
            for s in samples
        ]
        for answer in self._ask(prompts, Rating):
            if isinstance(answer, str):
                yield _none(answer)
            else:
                details = {"score": answer.score, "reason": asking.clean(answer.reason)}
                yield Verdict((answer.score - 1) / 4, None, details)

    def _pairwise(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        prompts = []
        for sample in samples:
            reference = next(text for text in sample.reference if text.strip())
            for first, second in ((sample.completion, reference), (reference, sample.completion)):
                prompts.append(
                    asking.compare_answers(sample.question, first, second, self.language)
                )
        answers = self._ask(prompts, PairVerdict)
        for ahead, behind in zip(answers[::2], answers[1::2], strict=True):
            yield _preferred(ahead, behind)


def _read(kind: type[Structured], reply: str | None) -> Structured | str:
    if reply is None:
        return NO_REPLY
    message = f"the judge's reply is not the JSON asked for: {asking.clean(reply[:80])!r}"
    return asking.parse(kind, reply) or message


def _none(why: str, details: dict[str, Any] | None = None) -> Verdict:
    """No value: the judge's reply is unusable, or missing (then it is requested again)."""
    return Verdict(None, why, details, failed=NO_REPLY in why)


def _evidence(sample: Sample) -> tuple[str, str | None]:
    """What claims are held against, and its text; None where only the judge's knowledge is left."""
    if sample.passage and sample.passage.strip():
        return "passage", sample.passage
    reference = "\n".join(text for text in sample.reference if text.strip())
    return ("reference", reference) if reference else ("own knowledge", None)


def _supported(
    sample: Sample, claims: Sequence[str], answers: Sequence[ClaimVerdict | str]
) -> Verdict:
    """The share of claims supported; a claim without a verdict leaves no share."""
    name, evidence = _evidence(sample)
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    lost = []
    for claim, answer in zip(claims, answers, strict=True):
        if isinstance(answer, str):
            lost.append(answer)
            rows.append({"claim": claim, "verdict": None, "why": answer})
            continue
        row: dict[str, Any] = {"claim": claim, **answer.model_dump()}
        row["quote"] = asking.clean(answer.quote)
        if evidence is not None and answer.verdict != "not_enough_information":
            row["quote_found"] = asking.stands_in(answer.quote, evidence)
        counts["unquoted" if row.get("quote_found") is False else answer.verdict] += 1
        rows.append(row)
    details: dict[str, Any] = {"evidence": name, "claims": rows}
    if lost:
        silent = [why for why in lost if why == NO_REPLY] or lost
        return _none(f"{len(lost)} of {len(claims)} claims: {silent[0]}", details)
    names = ("contradicted", "not_enough_information", "unquoted")
    details["labels"] = {label: counts[label] / len(claims) for label in names}
    fooled = counts["unquoted"]
    why = f"{fooled} of {len(claims)} quotes do not stand in the {name}" if fooled else None
    return Verdict(counts["supported"] / len(claims), why, details)


def _preferred(ahead: PairVerdict | str, behind: PairVerdict | str) -> Verdict:
    """The completion's result, given the verdicts with the completion as A and as B."""
    if isinstance(ahead, str) or isinstance(behind, str):
        return _none(next(why for why in (ahead, behind) if isinstance(why, str)))
    first = {"A": 1.0, "B": 0.0, "tie": 0.5}[ahead.better]
    second = {"A": 0.0, "B": 1.0, "tie": 0.5}[behind.better]
    consistent = first == second
    details = {
        "completion_first": {"better": ahead.better, "reason": asking.clean(ahead.reason)},
        "reference_first": {"better": behind.better, "reason": asking.clean(behind.reason)},
        "labels": {"consistent": float(consistent)},
    }
    if consistent:
        return Verdict(first, None, details)
    why = f"the verdict follows the position: {ahead.better}, then {behind.better}; a tie"
    return Verdict(0.5, why, details)
