"""Look up replies that were paid for, under every spelling of the teacher's address.

A plan adopts one spelling (`adopt_identity`), and a warehouse may have calls under several. A reply
stored under another one keeps its own call id, so its samples and students are found as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datagen.generate import reread
from datagen.teacher import Request, Teacher
from warehouse.db.store import Store
from warehouse.records import Call

CallKeys = list[tuple[str, int]]
"""Call ids, each with the `max_tokens` that a reply must serve."""


def load_paid_calls(store: Store, teacher: Teacher, requests: Sequence[Request]) -> dict[str, Call]:
    """The usable calls among those already paid for, by the requests' call ids, as they are read
    today."""
    stored = store.paid(_keys(requests))
    for ids, keys in _other_spellings(store, teacher, requests, stored):
        stored |= {ids[call_id]: call for call_id, call in store.paid(keys).items()}
    return {call_id: reread(call) for call_id, call in stored.items()}


def find_paid_ids(store: Store, teacher: Teacher, requests: Sequence[Request]) -> set[str]:
    """The requests' call ids for which `load_paid_calls` has a call; reads no reply."""
    stored = store.paid_ids(_keys(requests))
    for ids, keys in _other_spellings(store, teacher, requests, stored):
        stored |= {ids[call_id] for call_id in store.paid_ids(keys)}
    return stored


def _keys(requests: Sequence[Request]) -> CallKeys:
    return [(request.call_id, request.sampling.max_tokens) for request in requests]


def _other_spellings(
    store: Store, teacher: Teacher, requests: Sequence[Request], stored: set[str] | dict[str, Call]
) -> Iterator[tuple[dict[str, str], CallKeys]]:
    """For each other spelling with calls: the requests' ids by the ids they have there, and what is
    to be looked up. `stored` grows meanwhile, and what is in it is left out."""
    if all(request.call_id in stored for request in requests):
        return
    from datagen.openai.options import normalized_identity  # loads aiohttp

    identity, normalized = teacher.identity, normalized_identity(teacher.identity)
    for other in store.teachers():
        if other == identity or normalized_identity(other) != normalized:
            continue
        missing = [request for request in requests if request.call_id not in stored]
        respelled = [Request.of(other, request.messages, request.sampling) for request in missing]
        ids = {a.call_id: b.call_id for a, b in zip(respelled, missing, strict=True)}
        yield ids, _keys(respelled)
