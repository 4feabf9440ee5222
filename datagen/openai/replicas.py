"""Choose among servers of one model by measured latency; leave out those that fail, and try them again.

Each has a moving average of its latency and a number of open requests; the next request goes to the
one where latency times open requests is least, as in "peak EWMA" of Finagle and linkerd
(https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency). Two things differ.
Servers are few, so all are compared and not two drawn ones. The average does not jump to a peak,
since the lengths of replies vary more than the speeds of servers. Only good replies are measured:
a server that fails at once is not a fast one.

A failing server is left out for a time that doubles with each failure, then gets one request; a
good reply brings it back.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datagen.openai.endpoint import EmptyReply, Endpoint, Overloaded
from datagen.openai.unreachable import NobodyThere
from warehouse.errors import TeacherUnusable, TransientError
from warehouse.wording import format_count

log = logging.getLogger(__name__)

DECAY_S = 10.0
"""Seconds after which a measured latency counts for 1/e; Finagle's default."""
FIRST_PAUSE_S = 1.0
"""Seconds for which a server is left out at its first failure."""
LONGEST_PAUSE_S = 60.0


@dataclass
class Replica:
    """One of the servers, with what was measured of it."""

    endpoint: Endpoint
    open: int = 0
    """Requests that were given to it and are not answered, also those that wait for their turn."""
    latency_s: float | None = None
    measured_at: float = 0.0
    failures: int = 0
    """Failures without a good reply since; those of requests that were open together are one."""
    failed_at: float = 0.0
    pause_s: float = 0.0
    is_tried: bool = False
    """Whether the one request is open that shows whether it is back."""
    is_reported: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it gets requests like the others."""
        return not self.failures and self.endpoint.gone is None


class Replicas:
    """The servers of one model. A single one is always chosen, whatever it answers."""

    def __init__(
        self, endpoints: Sequence[Endpoint], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.all = [Replica(endpoint) for endpoint in endpoints]
        self._clock = clock

    def others_up(self, replica: Replica) -> int:
        """How many other servers have not failed since their last good reply."""
        return sum(other.is_up for other in self.all if other is not replica)

    def pick(self) -> Replica:
        """The server for the next request, which then counts as open; `finish` ends that.

        Raises:
            TeacherUnusable: all of them were given up.
        """
        left = [replica for replica in self.all if replica.endpoint.gone is None]
        if not left:
            raise self.all[-1].endpoint.gone or TeacherUnusable("there is no endpoint")
        moment = self._clock()
        due = [
            each
            for each in left
            if each.failures and not each.is_tried and self._due(each) <= moment
        ]
        up = [replica for replica in left if replica.is_up]
        with_room = [replica for replica in up if replica.open < int(replica.endpoint.pace.window)]
        if due:
            chosen = min(due, key=self._due)
        elif up:
            chosen = min(with_room or up, key=self._cost)
        else:
            chosen = min(left, key=lambda replica: (replica.open, self._due(replica)))
        chosen.is_tried = bool(chosen.failures)
        chosen.open += 1
        return chosen

    def finish(self, replica: Replica) -> None:
        """A request to it is no longer open."""
        replica.open -= 1
        replica.is_tried = False

    def note_reply(self, replica: Replica, latency_s: float) -> None:
        """Measure a good reply; a server that had failed is back."""
        moment = self._clock()
        old = (
            0.0 if replica.latency_s is None else math.exp((replica.measured_at - moment) / DECAY_S)
        )
        replica.latency_s = latency_s + old * ((replica.latency_s or 0.0) - latency_s)
        replica.measured_at, replica.failures = moment, 0
        if replica.is_reported:
            replica.is_reported = False
            log.warning("%s answers again and gets requests as before", replica.endpoint.base_url)

    def note_fault(self, replica: Replica, fault: TransientError, picked_at: float) -> None:
        """Leave a server out for a while.

        Args:
            replica: The server.
            fault: What came in place of a reply.
            picked_at: When it was chosen. What was open when it failed before is the same failure.
        """
        answers = isinstance(fault, EmptyReply) or (
            isinstance(fault, Overloaded) and not fault.is_server_fault
        )
        if answers or len(self.all) == 1:
            return
        if replica.failures and picked_at <= replica.failed_at:
            return
        replica.failures += 1
        replica.failed_at = self._clock()
        replica.pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(replica.failures - 1, 30))
        lasts = isinstance(fault, NobodyThere) or replica.failures > 1
        if lasts and self.others_up(replica) and not replica.is_reported:
            replica.is_reported = True
            log.warning(
                "%s is left out (%s); %s, and it is tried again, after %g s at most",
                replica.endpoint.base_url, fault, self._others(replica), LONGEST_PAUSE_S,
            )  # fmt: skip

    def give_up(self, replica: Replica, fault: TeacherUnusable) -> None:
        """Never choose a server again."""
        replica.endpoint.gone = fault
        if self.others_up(replica):
            url, others = replica.endpoint.base_url, self._others(replica)
            log.warning("%s is left out for good (%s); %s", url, fault, others)

    def _others(self, replica: Replica) -> str:
        up = self.others_up(replica)
        return f"{format_count(up, 'other server')} {'goes' if up == 1 else 'go'} on"

    def _due(self, replica: Replica) -> float:
        """When a server that failed is tried again."""
        return replica.failed_at + replica.pause_s

    def _cost(self, replica: Replica) -> tuple[float, int]:
        """Expected seconds until a reply, roughly; the fewest open requests where they are equal."""
        known = [each.latency_s for each in self.all if each.latency_s is not None]
        latency_s = replica.latency_s
        if latency_s is None:  # as good as the best, until it is measured
            latency_s = min(known, default=1.0)
        elif not replica.open:  # or a server that was slow once would never be measured again
            latency_s *= math.exp((replica.measured_at - self._clock()) / DECAY_S)
        return latency_s * (replica.open + 1) + replica.endpoint.pace.pause_left_s, replica.open
