"""Ask the teacher from within a recipe: replies as text, or as objects of a schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from datagen.json_replies import find_json, refuses_schema, strict_schema
from datagen.teacher import Reply, Request, Sampling
from warehouse.errors import StillhouseError
from warehouse.inputs.refusal_phrases import declines
from warehouse.records import Call, Message
from warehouse.text.finish_reasons import FILTER, LENGTH
from warehouse.wording import format_count

Model = TypeVar("Model", bound=BaseModel)

MOST_FAULTS = 5
"""Faults of an invalid reply that the teacher is told."""
_CORRECTION = "That reply cannot be used: "
"""How the answer to an invalid reply begins; part of call ids."""


class Unanswered(StillhouseError):
    """There is no reply to a call: the request was refused, or all its tries failed."""


class Unparsed(StillhouseError):
    """No reply fitted the schema; `raw` is the last text, `status` what became of it."""

    def __init__(self, message: str, raw: str, status: str = "invalid") -> None:
        super().__init__(message)
        self.raw = raw
        self.status = status


Answer = Callable[[Request], Awaitable[tuple[Call, Reply]]]
"""Gives a request's call and reply, whether it was paid for before or is asked now."""


@dataclass
class Ask:
    """A seed's way to the teacher. Every call is made once, ever.

    Attributes:
        folder: Where the plan's relative paths start.
        prepared: What the recipe's `prepare` returned.
    """

    identity: str
    sampling: Sampling
    folder: Path
    prepared: dict[str, Any]
    reply_to: Answer
    _calls: list[Call | None] = field(default_factory=list)
    """A place for each call, empty while it waits and where it has no reply."""

    async def __call__(
        self, messages: Sequence[Message], *, draw: int = 0, **sampling: Any
    ) -> Reply:
        """The teacher's reply; the same messages and sampling are the same call.

        Args:
            messages: The conversation; it ends with what is asked.
            draw: Another number is another reply to the same messages; above 0 it is the seed of
                the sampling.
            sampling: Fields of `Sampling` in place of the plan's, such as `temperature`.

        Raises:
            Unanswered: there is no reply.
        """
        drawn = replace(self.sampling, **{**({"seed": draw} if draw else {}), **sampling})
        request = Request.of(self.identity, list(messages), drawn)
        place = len(self._calls)
        self._calls.append(None)  # in the order of asking, whichever reply comes first
        call, reply = await self.reply_to(request)
        self._calls[place] = call
        return reply

    async def into(
        self,
        model: type[Model],
        messages: Sequence[Message],
        *,
        tries: int = 3,
        draw: int = 0,
        check: Callable[[Model], str | None] | None = None,
        **sampling: Any,
    ) -> Model:
        """The teacher's reply as an object of a pydantic model.

        The schema is requested where the endpoint takes one, and the reply is validated always. An
        invalid reply is answered with its fault, and asked for again.

        Args:
            model: The pydantic model.
            messages: The conversation; it should say which JSON is wanted.
            tries: Replies until it is given up.
            draw: Another number is another reply, as in a plain call.
            check: What else must hold: returns the fault, or None.
            sampling: Fields of `Sampling` in place of the plan's.

        Raises:
            Unanswered: there is no reply.
            Unparsed: no reply fits; `raw` is the text of the last one.
        """
        parsed: Model = await self._parsed(
            messages, strict_schema(model), model.model_validate, check, tries, draw, sampling
        )
        return parsed

    async def into_json(
        self,
        schema: Mapping[str, Any],
        messages: Sequence[Message],
        *,
        name: str = "reply",
        tries: int = 3,
        draw: int = 0,
        check: Callable[[Any], str | None] | None = None,
        validate: Callable[[Any], Any] | None = None,
        **sampling: Any,
    ) -> Any:
        """The same for a JSON schema (draft 2020-12), such as one that a user wrote in a plan.

        `validate` stands for the validation by the schema, where it tells faults in better words: it
        returns what `into_json` gives, or raises ValueError.

        Raises:
            Unanswered, Unparsed: as in `into`.
        """
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(dict(schema))

        def validate_schema(value: Any) -> Any:
            faults = sorted(validator.iter_errors(value), key=lambda fault: list(fault.path))
            if faults:
                raise ValueError(
                    "; ".join(
                        f"{'.'.join(map(str, fault.path)) or 'reply'}: {fault.message}"
                        for fault in faults[:MOST_FAULTS]
                    )
                )
            return value

        form = {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": dict(schema), "strict": True},
        }
        return await self._parsed(
            messages, form, validate or validate_schema, check, tries, draw, sampling
        )

    async def _parsed(
        self,
        messages: Sequence[Message],
        form: dict[str, Any],
        validate: Callable[[Any], Any],
        check: Callable[[Any], str | None] | None,
        tries: int,
        draw: int,
        sampling: Mapping[str, Any],
    ) -> Any:
        asked = list(messages)
        form_or_none: dict[str, Any] | None = form
        fault = raw = ""
        before: list[list[Message]] = []
        for number in range(tries):
            if asked in before:  # the same fault once more
                if sampling.get("temperature", self.sampling.temperature) == 0:
                    tries = number
                    break  # and greedy decoding would give the same reply again
                draw += number
            before.append(asked)
            try:
                reply = await self(asked, draw=draw, response_format=form_or_none, **sampling)
            except Unanswered as error:
                if form_or_none is None or not refuses_schema(str(error)):
                    raise
                form_or_none = None  # this server takes no schema: ask in words alone
                reply = await self(asked, draw=draw, **sampling)
            raw = reply.text.strip()
            if reply.finish_reason == FILTER:
                raise Unparsed("the teacher's content filter ended the reply", raw, "refused")
            try:
                value = validate(find_json(raw))
                fault = (check(value) if check else None) or ""
                if not fault:
                    if number and _CORRECTION.strip() in raw:
                        raise Unparsed("the reply repeats what was said of the one before", raw)
                    return value
            except ValidationError as error:
                fault = _faults(error)
            except ValueError as error:
                fault = str(error)
            if reply.finish_reason == LENGTH:
                raise Unparsed("the reply reached max_tokens", raw, "truncated")
            asked = [
                *messages,
                {"role": "assistant", "content": raw or "{}"},
                {
                    "role": "user",
                    "content": f"{_CORRECTION}{fault}. Reply again with the corrected JSON alone.",
                },
            ]
        if declines(raw):
            raise Unparsed("the teacher declined to answer", raw, "refused")
        raise Unparsed(f"no valid reply in {format_count(tries, 'try')}: {fault}", raw)

    def cite(self, call: Call) -> None:
        """Name a call that was made elsewhere as one of this seed's; nothing is asked."""
        self._calls.append(call)

    @property
    def calls(self) -> list[Call]:
        """Of this seed so far, in the order in which they were asked."""
        return [call for call in self._calls if call is not None]


def _faults(error: ValidationError) -> str:
    """What does not fit, in a form that a model understands."""
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc']) or 'reply'}: {fault['msg']}"
        for fault in error.errors()[:MOST_FAULTS]
    )
