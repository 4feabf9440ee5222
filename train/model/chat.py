"""Stream the answers of one conversation with a model, which may call tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from train.dataset import render, token_ids
from train.model.inference import Generator
from warehouse.errors import ModelError
from warehouse.records import Message
from warehouse.tool_calls import call_message, result_messages, show_call, split_calls

Tell = Callable[[str], None]
"""Takes the pieces of an answer as they come."""

_MAY_BEGIN_A_CALL = re.compile(r"[<\[{]")


class Chat:
    """A conversation with a loaded model. Answers are greedy, as everywhere here.

    Args:
        generator: The model.
        max_new_tokens: Longest answer in tokens.
        system: A system message.
        tools: What it may call, as JSON schemas; the chat template has to know tools.
    """

    def __init__(
        self,
        generator: Generator,
        max_new_tokens: int,
        system: str | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.generator = generator
        self.max_new_tokens = max_new_tokens
        self.system = system
        self.tools = list(tools)
        self.turns: list[Message] = []

    def reset(self, system: str | None = None) -> None:
        """Start again; with a system message, if one is given, in the place of the old one."""
        self.turns = []
        self.system = system if system is not None else self.system

    def say(self, text: str, tell: Tell) -> str:
        """Answer one message; the pieces go to `tell` as they come, and the whole is returned.

        Calls of tools are told at the end, each on a line of its own: weather(city="Oslo"). An
        answer that is interrupted stays in the conversation as far as it came.

        Raises:
            ModelError: the conversation does not fit the model's context; it is unchanged.
        """
        return self._answer({"role": "user", "content": text}, tell)

    @property
    def open_calls(self) -> list[dict[str, Any]]:
        """The calls of the last answer that have no result yet."""
        given = {m["tool_call_id"] for m in self.turns if m["role"] == "tool"}
        last = next((m for m in reversed(self.turns) if m["role"] == "assistant"), {})
        return [call for call in last.get("tool_calls", ()) if call["id"] not in given]

    def give_result(self, text: str, tell: Tell) -> str | None:
        """Give the first of `open_calls` its result; the answer comes after that of the last one.

        Returns:
            As `say`; None where other calls still wait for their results.

        Raises:
            ModelError: no call waits for a result, or as in `say`.
        """
        waiting = self.open_calls
        if not waiting:
            raise ModelError("no call waits for a result; ask for something that needs a tool")
        [message] = result_messages({"tool_calls": waiting[:1]}, [text])
        if len(waiting) > 1:
            self.turns.append(message)
            return None
        return self._answer(message, tell)

    def _answer(self, asked: Message, tell: Tell) -> str:
        head: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        tokenizer = self.generator.tokenizer
        text = render(tokenizer, [*head, *self.turns, asked], self.tools)
        ids = token_ids(tokenizer, text)
        context = self.generator.context
        if context is not None and len(ids) + self.max_new_tokens > context:
            raise ModelError(
                f"the conversation has {len(ids)} tokens; with {self.max_new_tokens} new ones it "
                f"exceeds the model's context of {context}; start again with /reset"
            )
        heard = _Heard(tell, holds_back=bool(self.tools))
        try:
            self._generate(ids, heard.add)
        finally:
            if heard.text:
                answer = heard.end()
                if "tool_calls" in answer:  # numbered on from those before
                    calls = [call["function"] for call in answer["tool_calls"]]
                    answer = {**call_message(calls, self.turns), "content": answer["content"]}
                self.turns += [asked, answer]
        return heard.text

    def _generate(self, ids: list[int], hear: Tell) -> None:
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


class _Heard:
    """An answer as it comes; what may be a call is held back until the whole of it is known."""

    def __init__(self, tell: Tell, holds_back: bool) -> None:
        self.tell, self.holds_back = tell, holds_back
        self.text = ""
        self.told = 0

    def add(self, piece: str) -> None:
        """Take the next piece, and tell what cannot be a call."""
        self.text += piece
        found = _MAY_BEGIN_A_CALL.search(self.text) if self.holds_back else None
        self._tell_to(found.start() if found else len(self.text))

    def end(self) -> Message:
        """Tell the rest, and give the answer as a message."""
        rest, calls = split_calls(self.text[self.told :]) if self.holds_back else ("", [])
        if not calls:
            self._tell_to(len(self.text))
            return {"role": "assistant", "content": self.text}
        before = self.text[: self.told]
        lines = [rest, *map(show_call, calls)] if rest else list(map(show_call, calls))
        self.tell(("\n" if before.strip() else "") + "\n".join(lines))
        content = f"{before}{rest}".strip()
        return {**call_message(calls), "content": content}

    def _tell_to(self, end: int) -> None:
        if end > self.told:
            piece, self.told = self.text[self.told : end], end
            self.tell(piece)
