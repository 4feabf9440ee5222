"""Run the command line, and let one fault strike at a chosen event of a stage.

    python -m tests.support.faulty FAULT STAGE NUMBER LOG -- run plan.toml

Events are what a fault could tear: writes of the warehouse and of the spool, files that are moved or
written, and steps of a training; each is one event before and one after. FAULT at event NUMBER of STAGE:

kill  SIGKILL of this process
full  from here on no file grows, as on a disk that is full
once  no file grows until the stage ends, as where others free space, or students have another disk
other SIGKILL of the process whose id stands in place of LOG
none  nothing; LOG gets the number of events of each stage
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


class Faults:
    """Counts events by stage, and strikes once."""

    def __init__(self, fault: str, stage: str, number: int, other: int = 0) -> None:
        self.fault, self.stage, self.number, self.other = fault, stage, number, other
        self.counts: Counter[str] = Counter()
        self._stages: list[str] = []
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def event(self) -> None:
        """One more event of the stage that is running."""
        if not self._stages:
            return
        current = self._stages[-1]
        self.counts[current] += 1
        if (current, self.counts[current]) == (self.stage, self.number):
            self.strike()

    def strike(self) -> None:
        """The fault."""
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "other":
            os.kill(self.other, signal.SIGKILL)
        elif self.fault in ("full", "once"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limits[1]))

    @contextmanager
    def within(self, stage: str) -> Iterator[None]:
        """Events in here belong to a stage."""
        self._stages.append(stage)
        try:
            yield
        finally:
            self._stages.pop()
            if self.fault == "once":
                resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function with an event before and one after."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.event()
            result = call(*args, **kwargs)
            self.event()
            return result

        return wrapped

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The product's functions, wrapped; the limit on files is lifted afterwards."""
        import flows.stages.evaluate as evaluation
        from flows.runtime.run import RunContext
        from train.loop.callbacks import TrainingCallbacks
        from warehouse.db.spool import Spool
        from warehouse.db.store import Store

        staged, reported = RunContext.stage, evaluation.write_report
        faults = self

        @contextmanager
        def stage(context: Any, name: str) -> Iterator[None]:
            with faults.within(name), staged(context, name):
                yield

        def write_report(*args: Any) -> Any:
            with faults.within("report"):
                return reported(*args)

        with (
            mock.patch.object(RunContext, "stage", stage),
            mock.patch.object(evaluation, "write_report", write_report),
            mock.patch.object(Store, "insert", self.around(Store.insert)),
            mock.patch.object(Store, "insert_frame", self.around(Store.insert_frame)),
            mock.patch.object(Store, "put_sample_list", self.around(Store.put_sample_list)),
            mock.patch.object(Store, "put_choices", self.around(Store.put_choices)),
            mock.patch.object(Store, "enter", self.around(Store.enter)),
            mock.patch.object(Spool, "append", self.around(Spool.append)),
            mock.patch.object(
                TrainingCallbacks, "__call__", self.around(TrainingCallbacks.__call__)
            ),
            mock.patch.object(os, "replace", self.around(os.replace)),
            mock.patch.object(Path, "write_text", self.around(Path.write_text)),
        ):
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def main() -> None:
    """Run the command after `--`."""
    fault, stage, number, log = sys.argv[1:5]
    sys.argv = ["distill", *sys.argv[6:]]
    from flows.cli import main as distill

    faults = Faults(fault, stage, int(number), int(log) if fault == "other" else 0)
    with faults.installed():
        try:
            distill()
        finally:
            if fault == "none":
                with open(log, "w", encoding="utf-8") as file:
                    json.dump(faults.counts, file)


if __name__ == "__main__":
    main()
