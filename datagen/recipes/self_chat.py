"""Build dialogues of several turns: the teacher plays the user and the assistant in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from datagen.ask import Ask, Unparsed
from datagen.given_rows import GivenRows
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.role_faults import assistant_fault, user_fault
from datagen.worded_recipe import WordedRecipe
from datagen.wording import Wording
from warehouse.records import Message


class UserTurn(BaseModel):
    """What the user says next."""

    message: str
    done: bool


@dataclass(frozen=True)
class SelfChat(WordedRecipe, GivenRows):
    """Dialogues that the teacher has with itself, each side in calls of its own.

    Self-chat (Baize: Xu et al., 2023, section 3.1), where one call writes a whole transcript. Here the
    user and the assistant are asked apart, so that neither sees the other's instructions, the user
    may have a persona, and a turn that leaves its role is found when it is written.
    """

    version: ClassVar[str] = "1"

    opens: bool = True
    """Whether a row is the user's first message; if not, it is a topic and the teacher writes that."""
    turns: int = 3
    """Most turns of the assistant; the user may end the dialogue earlier."""
    examples: Literal["last", "each"] = "last"
    """One example for the last turn of the assistant, or one for each of its turns."""
    personas: list[str] | None = None
    """Who the user is, drawn for each dialogue, such as ["a busy parent", "a student of law"]."""
    instruction: str | None = None
    """A system message for the assistant and the student; unset, the student has none."""
    tries: int = 3
    """Replies of a user's turn until it is given up; one out of its role is answered with its fault."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("turns", "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more")
        if self.personas is not None and not all(map(str.strip, self.personas or [""])):
            raise ValueError("personas is a list of texts; leave it out for none")

    @property
    def calls_expected(self) -> tuple[int, int]:
        """From an opener and its answer to a user's turn, with its tries, before each answer."""
        begun = 0 if self.opens else 1
        return (begun + 1, self.turns + self.tries * (begun + self.turns - 1))

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        """Let the two speak in turn until the user is done, or `turns` are reached."""
        wording = self.wording(ask.folder)
        given: list[Message] = seed.value["messages"]
        persona = seed.random.choice(self.personas) if self.personas else None
        topic = given[-1]["content"]
        facts: dict[str, Any] = {"topic": topic, **({"persona": persona} if persona else {})}
        own = [self.instruction] if self.instruction else []
        system = "\n\n".join([*own, *(m["content"] for m in given if m["role"] == "system")])
        head: list[Message] = [{"role": "system", "content": system}] if system else []
        told = [{"role": "system", "content": wording.text("system", instruction=system)}]
        dialogue = [m for m in given if m["role"] != "system"] if self.opens else []
        last: Example | None = None
        ended = False
        for number in range(self.turns):
            try:
                if dialogue[-1:] == [] or dialogue[-1]["role"] == "assistant":
                    turn = await self._user_turn(dialogue, topic, persona, ask, wording)
                    if turn.done and dialogue:
                        ended = True
                        break
                    dialogue.append({"role": "user", "content": turn.message.strip()})
            except Unparsed as fault:
                yield self._faulty(fault.raw, fault.status, str(fault), dialogue, facts)
                return
            reply = await ask([*told, *dialogue])
            text = reply.text.strip()
            status, reason = status_of(reply)
            if status == "ok" and (slip := assistant_fault(text, *_said(dialogue)[::-1])):
                status, reason = "invalid", slip
            if status != "ok":
                yield self._faulty(text, status, str(reason), dialogue, facts)
                return
            before = list(dialogue)
            dialogue.append({"role": "assistant", "content": text})
            last = Example(
                [*head, *before],
                text,
                before[-1]["content"],
                facts={**facts, "turn": number + 1, "dialogue": list(dialogue)},
                call_id=ask.calls[-1].call_id,
            )
            if self.examples == "each":
                yield last
        if self.examples == "last" and last is not None:
            yield Example(
                last.messages,
                last.completion,
                last.question,
                facts={**last.facts, "ended_by": "user" if ended else "turns"},
                call_id=last.call_id,
            )

    async def _user_turn(
        self, dialogue: list[Message], topic: str, persona: str | None, ask: Ask, wording: Wording
    ) -> UserTurn:
        """The user's next turn; the user model sees the dialogue from its own side.

        Raises:
            Unparsed: it is out of its role, or none at all.
        """
        shown = wording.messages("user", persona=persona, topic=topic, first=not dialogue)
        system: Message = {"role": "system", "content": shown[0]["content"]}
        sides = {"user": "assistant", "assistant": "user"}
        seen = [{"role": sides[m["role"]], "content": m["content"]} for m in dialogue]
        if not seen or seen[0]["role"] == "assistant":
            seen.insert(0, {"role": "user", "content": wording.text("begin")})
        earlier, others = _said(dialogue)
        check = partial(_user_fault, earlier=earlier, others=others)
        return await ask.into(UserTurn, [system, *seen], tries=self.tries, check=check)

    @staticmethod
    def _faulty(
        text: str, status: str, reason: str, dialogue: list[Message], facts: dict[str, Any]
    ) -> Example:
        return Example([], text, status=status, reason=reason, facts={**facts, "dialogue": list(dialogue)})  # fmt: skip


def _user_fault(turn: UserTurn, earlier: list[str], others: list[str]) -> str | None:
    if turn.done and others:
        return None  # a farewell, which is no turn of the dialogue
    return user_fault(turn.message, earlier, others)


def _said(dialogue: list[Message]) -> tuple[list[str], list[str]]:
    """What the user and what the assistant have said."""
    return (
        [m["content"] for m in dialogue if m["role"] == "user"],
        [m["content"] for m in dialogue if m["role"] == "assistant"],
    )
