"""Publish a run's progress, audit and report as artifacts of its Prefect flow run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distill.report.report import render_training
from flows.runtime.prefect_flow import is_in_flow_run
from flows.runtime.progress import say

if TYPE_CHECKING:
    from uuid import UUID

    from train.loop.callbacks import Step

EVERY_S = 5.0
"""Seconds between two updates of an artifact."""

TIMEOUT_S = 5.0
"""Longest that a training waits for Prefect's server."""


class Artifacts:
    """A training in Prefect: how far it is, and in Markdown its audit and losses.

    Outside of a flow run there are none; where the server does not take one, no further
    one is sent, and the run goes on.
    """

    def __init__(self, name: str) -> None:
        self._key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self._progress: UUID | None = None
        self._sent_at = -EVERY_S
        self._on = is_in_flow_run()

    def step(self, step: Step) -> None:
        """A step was taken; the server is told now and then, and of the last one."""
        waits = time.monotonic() - self._sent_at < EVERY_S and step.done < step.total
        if waits or not self._on:
            return
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        share = 100.0 * step.done / max(1, step.total)
        description = f"step {step.done} of {step.total}, loss {step.loss:.3f}"
        description += "" if step.held_out_loss is None else f", held-out {step.held_out_loss:.3f}"
        description += f", {step.tokens_per_s:,.0f} tok/s" if step.tokens_per_s else ""
        if self._progress is None:
            key = f"{self._key}-progress"
            self._progress = self._send(create_progress_artifact, share, key, description)
        else:
            self._send(update_progress_artifact, self._progress, share, description)
        self._sent_at = time.monotonic()

    def publish(self, audit: dict[str, Any], losses: list[dict[str, float]]) -> None:
        """What the trainer saw, and once it has trained how the loss fell."""
        self.page("training", render_training(audit, losses))

    def page(self, what: str, text: str) -> None:
        """A page of Markdown."""
        if not self._on:
            return
        from prefect.artifacts import create_markdown_artifact

        self._send(create_markdown_artifact, text, f"{self._key}-{what}")

    def _send(self, send: Callable[..., Any], *values: Any) -> Any:
        import httpx
        from prefect.exceptions import PrefectException
        from prefect.settings import (
            PREFECT_API_REQUEST_TIMEOUT,
            PREFECT_CLIENT_MAX_RETRIES,
            temporary_settings,
        )

        limits = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
        try:
            with temporary_settings(limits):
                return send(*values)
        except (httpx.HTTPError, PrefectException) as error:
            self._on = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            say(f"note: Prefect's server accepts no artifacts ({reason}); the run goes on")
            return None
