"""Stream the answers of one conversation with a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from train.dataset import render, token_ids
from train.model.inference import Generator
from warehouse.errors import ModelError
from warehouse.records import Message


class Chat:
    """A conversation with a loaded model. Answers are greedy, as everywhere here."""

    def __init__(
        self, generator: Generator, max_new_tokens: int, system: str | None = None
    ) -> None:
        self.generator = generator
        self.max_new_tokens = max_new_tokens
        self.system = system
        self.turns: list[Message] = []

    def reset(self, system: str | None = None) -> None:
        """Start again; with a system message, if one is given, in the place of the old one."""
        self.turns = []
        self.system = system if system is not None else self.system

    def say(self, text: str, tell: Callable[[str], None]) -> str:
        """Answer one message; the pieces go to `tell` as they come, and the whole is returned.

        An answer that is interrupted stays in the conversation as far as it came.

        Raises:
            ModelError: the conversation does not fit the model's context; it is unchanged.
        """
        head: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        question: Message = {"role": "user", "content": text}
        tokenizer = self.generator.tokenizer
        ids = token_ids(tokenizer, render(tokenizer, [*head, *self.turns, question]))
        context = self.generator.context
        if context is not None and len(ids) + self.max_new_tokens > context:
            raise ModelError(
                f"the conversation has {len(ids)} tokens; with {self.max_new_tokens} new ones it "
                f"exceeds the model's context of {context}; start again with /reset"
            )
        pieces: list[str] = []

        def hear(piece: str) -> None:
            pieces.append(piece)
            tell(piece)

        try:
            self._generate(ids, hear)
        finally:
            if pieces:
                answer: Message = {"role": "assistant", "content": "".join(pieces)}
                self.turns += [question, answer]
        return "".join(pieces)

    def _generate(self, ids: list[int], hear: Callable[[str], None]) -> None:
        import torch
        from transformers import TextStreamer

        class Pieces(TextStreamer):  # type: ignore[misc]
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                if text:
                    hear(text)

        model: Any = self.generator.model
        input_ids = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            model.generate(
                input_ids=input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=self.max_new_tokens,
                streamer=Pieces(
                    self.generator.tokenizer, skip_prompt=True, skip_special_tokens=True
                ),
            )
