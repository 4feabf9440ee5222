"""Let a base or a student answer in shards, here or on workers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distill.contestants.contestant import Advance, Generation, Local
from flows.engines.engine import LocalEngine, ShardEngine
from flows.engines.worker_model import base_for_workers, worker_model
from warehouse.errors import ModelError
from warehouse.records import Failure, Message

Replies = list[tuple[int, Generation | Failure]]
"""Places in a shard and what came of them."""


@dataclass(frozen=True)
class Shard:
    """Conversations that are answered in batches among themselves, whoever does it."""

    conversations: list[list[Message]]
    max_new_tokens: int


@dataclass
class ShardedModel:
    """A base or student whose answers do not depend on the engine: the shards are the same.

    What is answered in one batch is padded to one length and multiplied at once, which may move the
    last digits of a logit.
    """

    local: Local
    engine: ShardEngine = field(default_factory=LocalEngine)

    @property
    def contestant_id(self) -> str:
        """As of the model in this process."""
        return self.local.contestant_id

    @property
    def description(self) -> str:
        """As of the model in this process."""
        return self.local.description

    def settings(self, messages: list[Message], max_new_tokens: int) -> dict[str, Any]:
        """As of the model in this process."""
        return self.local.settings(messages, max_new_tokens)

    def answer(
        self, conversations: Sequence[list[Message]], max_new_tokens: int, advance: Advance
    ) -> Iterator[tuple[int, Generation | Failure]]:
        """Answer greedily, longest conversations first."""
        places = _shards(conversations, self.local.batch_size)
        shards = [Shard([conversations[n] for n in shard], max_new_tokens) for shard in places]
        if self.engine.is_local or len(shards) < 2:
            results = LocalEngine().map(answer_here, (self.local, advance), shards)
        else:
            base = base_for_workers(self.local.base)
            sent = replace(self.local, base=base, _generator=[])  # what is loaded here stays here
            results = self.engine.map(
                answer_in_worker, sent, shards, lambda replies: advance(len(replies))
            )
        for shard, replies in zip(places, results, strict=True):
            for place, reply in replies:
                if isinstance(reply, Generation) and reply.batch is not None:
                    reply = replace(reply, batch=shard[reply.batch])
                yield shard[place], reply

    def close(self) -> None:
        """Free the model; a worker frees its own before it loads another."""
        self.local.close()


def answer_here(model: tuple[Local, Advance], shard: Shard) -> Replies:
    """Answer a shard with the model of this process."""
    local, advance = model
    return list(local.answer(shard.conversations, shard.max_new_tokens, advance))


def answer_in_worker(local: Local, shard: Shard) -> Replies:
    """Answer a shard with the model of this worker.

    Raises:
        ModelError: the student's folder is not on the worker's machine.
    """
    if local.student is not None and not local.student.is_dir():
        raise ModelError(
            f"worker {socket.gethostname()} has no folder {local.student}; have the project's folder "
            'at the same path there, or set run.engine = "local"'
        )
    key = ("answers", local.base, str(local.student), local.batch_size)
    with worker_model(key, lambda: local) as model:
        return answer_here((model, lambda number: None), shard)


def _shards(conversations: Sequence[list[Message]], batch_size: int | None) -> list[list[int]]:
    """The places of conversations, the longest first: as many as a device answers at once."""
    from train.model.device import device
    from train.model.generation import ENOUGH

    most = ENOUGH["cuda" if device().startswith("cuda") else "cpu"]
    rows = max(1, most // batch_size) * batch_size if batch_size else most
    lengths = [sum(len(str(m["content"])) for m in messages) for messages in conversations]
    order = sorted(range(len(conversations)), key=lambda n: -lengths[n])
    return [order[n : n + rows] for n in range(0, len(order), rows)]
