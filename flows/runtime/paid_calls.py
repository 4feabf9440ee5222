"""Look up replies that were paid for, under every spelling of the teacher's address.

A plan adopts one spelling (`adopt_identity`), and a warehouse may have calls under several. A reply
stored under another one keeps its own call id, so its samples and students are found as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from datagen.generate import reread
from datagen.teacher import Request, Teacher
from warehouse.db.store import Store
from warehouse.records import Call

CallKeys = list[tuple[str, int]]
"""Call ids, each with the `max_tokens` that a reply must serve."""


class RecordedCalls:
    """Looks calls up in the warehouse, and opens it only for calls that may be there.

    The first 64 bits of all recorded call ids are held in memory: 8 bytes for each call.
    """

    def __init__(self, store: Store, teacher: Teacher) -> None:
        self._store, self._teacher = store, teacher
        self._added: set[int] = set()

    def find(self, requests: Sequence[Request]) -> dict[str, Call]:
        """The usable calls among those already paid for, by the requests' call ids."""
        likely = self._likely(requests)
        return load_paid_calls(self._store, self._teacher, likely) if likely else {}

    def add(self, calls: Iterable[Call]) -> None:
        """Know of calls that came into the warehouse since."""
        self._added.update(_prefix(call.call_id) for call in calls)

    def _likely(self, requests: Sequence[Request]) -> list[Request]:
        import numpy as np

        if not len(self._prefixes) and not self._added:
            return []
        likely: dict[str, Request] = {}
        for identity in self._spellings:
            ids = [
                request.call_id
                if identity == self._teacher.identity
                else Request.of(identity, request.messages, request.sampling).call_id
                for request in requests
            ]
            prefixes = np.array([_prefix(call_id) for call_id in ids], dtype=np.uint64)
            places = np.searchsorted(self._prefixes, prefixes)
            within = places < len(self._prefixes)
            places[~within] = 0
            known = within & (self._prefixes[places] == prefixes) if len(self._prefixes) else within
            for request, prefix, is_known in zip(requests, prefixes, known, strict=True):
                if is_known or int(prefix) in self._added:
                    likely[request.call_id] = request
        return list(likely.values())

    @cached_property
    def _prefixes(self) -> Any:
        """Sorted first 64 bits of all recorded call ids (uint64)."""
        import numpy as np

        ids = self._store.call_ids()
        return np.sort(np.array([_prefix(call_id) for call_id in ids], dtype=np.uint64))

    @cached_property
    def _spellings(self) -> list[str]:
        """The identities under which calls of this teacher may be recorded."""
        from datagen.openai.options import normalized_identity  # loads aiohttp

        identity = self._teacher.identity
        normalized = normalized_identity(identity)
        others = [
            other
            for other in self._store.teachers()
            if other != identity and normalized_identity(other) == normalized
        ]
        return [identity, *others]


def _prefix(call_id: str) -> int:
    return int(call_id[:16], 16)


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
