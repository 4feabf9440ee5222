"""Run verbs as Prefect flows and shards as Prefect tasks, where a Prefect server is configured.

Without one they run as they are: a private server would record them where nobody looks, at
ten seconds of start for each command. The warehouse has the runs either way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import tenacity

from flows.runtime import prefect_server
from flows.runtime.progress import say
from warehouse.errors import TransientError, first_line

T = TypeVar("T")

RETRIES = 2
"""How often a shard is tried again after a transient error."""

RETRY_DELAY_S = 2


def run_flow(name: str, function: Callable[..., T], *values: Any) -> T:
    """Call a function, as a Prefect flow where the user has a server.

    Where the server is lost while the function runs, its result and its errors are what counts.

    Raises:
        ServerError: the configured server does not answer.
    """
    if not prefect_server.is_configured():
        return function(*values)
    from prefect import flow

    prefect_server.require_answer()
    results: list[T] = []
    errors: list[Exception] = []

    def noting(*given: Any) -> T:
        try:
            results.append(function(*given))
        except Exception as error:
            errors.append(error)
            raise
        return results[0]

    try:
        return flow(name=name, validate_parameters=False)(noting)(*values)
    except Exception as error:
        if error in errors or not (results or errors):
            raise
        logging.getLogger("prefect").setLevel(logging.CRITICAL)  # of events that nobody takes
        say(
            f"note: Prefect's server was lost during the run ({first_line(error)}), which does not "
            "show there as ended; the warehouse has all of it"
        )
        if errors:
            raise errors[0] from None
        return results[0]


def run_shard(job: Callable[[], T]) -> T:
    """Run one shard of a stage, within a flow run as a Prefect task; transient errors are retried."""
    if is_in_flow_run():
        return _run_as_task(job)
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(1 + RETRIES),
        wait=tenacity.wait_fixed(RETRY_DELAY_S),
        retry=tenacity.retry_if_exception_type(TransientError),
        reraise=True,
    )
    return attempts(job)


def is_in_flow_run() -> bool:
    """Whether a Prefect flow is running here; imports nothing, since whoever runs one has it."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


def _run_as_task(job: Callable[[], T]) -> T:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    @task(
        name="shard",
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=lambda _task, _run, state: isinstance(
            state.result(raise_on_failure=False), TransientError
        ),
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )
    def shard(job: Callable[[], Any]) -> Any:
        return job()

    return cast(T, shard(job))
