"""Generate answers with a student or its base, and compute the likelihood of an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset import Encoded, encode, render, token_ids
from train.model.student import load, tuner_of
from warehouse.errors import ModelError
from warehouse.records import Message
from warehouse.text.reasoning import opened_reasoning, split_reasoning


@dataclass(frozen=True)
class Generated:
    """One answer, without its reasoning. `index` is the conversation's position; `latency_s` its
    equal share of the time of its batch, which `batch` names by the position of its first one."""

    index: int
    text: str
    finish_reason: str  # stop | length
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    batch: int
    logprobs: list[float] | None = None  # natural, of each token; where they were wanted and known
    reasoning: str | None = None


class Generator:
    """A loaded model that answers: the base, or a student; `loaded` is what `load` gave before.

    `exact`: in float32 on a GPU too.
    """

    def __init__(
        self,
        base: str,
        student: Path | None = None,
        loaded: tuple[Any, Any] | None = None,
        exact: bool = False,
    ) -> None:
        self.model, self.tokenizer = loaded or load(base, student, exact=exact)
        self.context: int | None = getattr(self.model.config, "max_position_embeddings", None)
        if self.context is not None and student is not None:
            self.context -= tuner_of(student).virtual_tokens
        self._ends = set(self.model.generation_config.eos_token_id)
        self._special = set(self.tokenizer.all_special_ids)

    def answer(
        self,
        conversations: Sequence[list[Message]],
        max_new_tokens: int,
        batch_size: int | None = None,
        advance: Callable[[int], None] = lambda n: None,
        scored: bool = False,
    ) -> Iterator[Generated]:
        """Answer greedily, longest prompts first; `index` tells which conversation.

        `batch_size` rows are answered at once; left out, as many as gain speed and fit into
        memory. A batch that a GPU has no memory for is halved. `scored`: with log-probabilities.

        Raises:
            ModelError: a prompt and its answer do not fit the model's context, or the GPU.
        """
        import torch

        from train.model.generation import rows_at_once

        rendered = [render(self.tokenizer, conversation) for conversation in conversations]
        prompts = [token_ids(self.tokenizer, text) for text in rendered]
        for index, reason in self._beyond(prompts, max_new_tokens).items():
            raise ModelError(f"conversation {index} {reason}; shorten it or lower max_new_tokens")
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        while order:
            longest = len(prompts[order[0]]) + max_new_tokens
            rows = batch_size or rows_at_once(self.model, longest, len(order))
            batch = order[:rows]
            try:
                batch_prompts = [prompts[index] for index in batch]
                opened = [opened_reasoning(rendered[index]) for index in batch]
                generated = self._batch(batch, batch_prompts, opened, max_new_tokens, scored)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise ModelError(
                        f"conversation {batch[0]}, of {longest} tokens with its answer, does not "
                        "fit into the GPU's memory; shorten it or use a smaller base"
                    ) from error
                batch_size = len(batch) // 2
                continue
            yield from generated
            order = order[rows:]
            advance(len(batch))

    def too_long(
        self, conversations: Sequence[list[Message]], max_new_tokens: int
    ) -> dict[int, str]:
        """Which conversations the model's context cannot hold with their answers, and why not."""
        prompts = [token_ids(self.tokenizer, render(self.tokenizer, c)) for c in conversations]
        return self._beyond(prompts, max_new_tokens)

    def _beyond(self, prompts: Sequence[list[int]], max_new_tokens: int) -> dict[int, str]:
        if self.context is None:
            return {}
        return {
            index: f"has {len(ids)} tokens; with {max_new_tokens} new ones it exceeds the model's "
            f"context of {self.context}"
            for index, ids in enumerate(prompts)
            if len(ids) + max_new_tokens > self.context
        }

    def likelihood(
        self, rows: Sequence[tuple[list[Message], str]], batch_size: int = 16
    ) -> Iterator[tuple[float, int]]:
        """How likely this model finds each completion after its messages, in order.

        Yields:
            (sum of natural log-probabilities, tokens), the end-of-answer token included.

        Raises:
            ValueError: a row does not fit the model's context.
        """
        encoded = [
            encode(
                {"prompt": messages, "completion": [{"role": "assistant", "content": text}]},
                self.tokenizer,
            )
            for messages, text in rows
        ]
        for row in encoded:
            if self.context is not None and len(row.input_ids) > self.context:
                raise ValueError(
                    f"{len(row.input_ids)} tokens exceed the model's context of {self.context}"
                )
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].input_ids))
        results: dict[int, tuple[float, int]] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            sums = self._log_probabilities([encoded[index] for index in batch])
            results.update(zip(batch, sums, strict=True))
        yield from (results[index] for index in range(len(encoded)))

    def _log_probabilities(self, rows: Sequence[Encoded]) -> list[tuple[float, int]]:
        import torch

        from train.model.fast_matmul import fast_products

        lengths = [len(row.input_ids) - row.start for row in rows]
        inputs = self.tokenizer.pad(
            {"input_ids": [row.input_ids for row in rows]}, return_tensors="pt"
        )
        ids = inputs["input_ids"].to(self.model.device)
        mask = inputs["attention_mask"].to(self.model.device)
        keep = max(lengths) + 1  # rows are padded on the left, so completions stand at the end
        with torch.inference_mode(), fast_products(self.model.device):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=keep,
            ).logits
            scores = torch.log_softmax(logits[:, -keep:-1].float(), dim=-1)
            token_scores = scores.gather(-1, ids[:, -(keep - 1) :, None])[..., 0]
        return [
            (float(row[keep - 1 - length :].sum()), length)
            for row, length in zip(token_scores, lengths, strict=True)
        ]

    def _answer_of(self, ids: Sequence[int], opened: str) -> tuple[str, str | None, str]:
        """Answer, reasoning and finish reason of generated tokens.

        `opened` is the mark with which the template already began the reasoning.
        """
        is_whole = ids[-1] in self._ends
        ids = ids[:-1] if is_whole else ids
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        marked = text
        if self._special & set(ids):  # marks of reasoning are special tokens in some vocabularies
            marked = self.tokenizer.decode(ids, skip_special_tokens=False)
        finish_reason = "stop" if is_whole else "length"
        answer, reasoning = split_reasoning(opened + marked, cut=not is_whole)
        if opened and is_whole and not answer:  # reasoning that was begun and not continued
            answer, reasoning = split_reasoning(marked)
        if answer in (marked, opened + marked):
            return text, None, finish_reason
        for token in self.tokenizer.all_special_tokens:
            answer = answer.replace(token, "")
        return answer, reasoning, finish_reason

    def _batch(
        self,
        indices: list[int],
        prompts: list[list[int]],
        opened: list[str],
        max_new_tokens: int,
        scored: bool,
    ) -> list[Generated]:
        from train.model.generation import greedy

        started = time.perf_counter()
        pad = self.tokenizer.pad_token_id
        logprobs: list[list[float]] = []
        logprobs_out = logprobs if scored else None
        generated = greedy(self.model, prompts, max_new_tokens, self._ends, pad, logprobs_out)
        latency_s = (time.perf_counter() - started) / len(indices)
        answers = []
        for place, (index, prompt, ids) in enumerate(zip(indices, prompts, generated, strict=True)):
            text, reasoning, finish_reason = self._answer_of(ids, opened[place])
            answers.append(
                Generated(
                    index=index,
                    text=text,
                    finish_reason=finish_reason,
                    prompt_tokens=len(prompt),
                    completion_tokens=len(ids),
                    latency_s=latency_s,
                    batch=indices[0],
                    logprobs=logprobs[place] if logprobs else None,
                    reasoning=reasoning,
                )
            )
        return answers
