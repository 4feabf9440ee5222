"""Serve `distill review`, a local page on which a person accepts, rejects or edits samples.

The server listens on the loopback only and refuses requests without the token in their address.
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import jinja2
import orjson
import uvicorn
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import quality.review
from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.review.session import Decision, Only, Session
from flows.runtime.loopback import is_own_host, is_own_origin, listen
from quality.review.agreement import Agreement
from warehouse.catalog import did_you_mean
from warehouse.errors import Outcome, StillhouseError, UsageError
from warehouse.wording import format_count

TEMPLATES = Path(quality.review.__file__).parent / "templates"
MOST_BYTES = 4_000_000
"""Largest request body: a long completion, and no more."""


class Guard:
    """Refuse requests without the token, to another host name, or from another page."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self.token = token.encode()
        self.port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or forward a request; security headers go on every response."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault(
                    "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
                )
                headers["Cache-Control"] = "no-store"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        refused = self._refused(Request(scope))
        await (refused or self.app)(scope, receive, sending)

    def _refused(self, request: Request) -> Response | None:
        if not is_own_host(request.headers, self.port):
            return _error("this page is on 127.0.0.1 only", 403)
        tokens = request.scope["path"].split("/")[1:2]
        if not secrets.compare_digest("".join(tokens).encode("utf-8", "replace"), self.token):
            return _error(
                "the address lacks the right token; open the address printed in the terminal", 403
            )
        if request.method == "POST":
            if not is_own_origin(request.headers):
                return _error("decisions come from the review page only", 403)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return _error("a decision is application/json", 415)
        return None


def _error(error: str, status: int) -> Response:
    return _json({"error": error}, status)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def app_of(session: Session, token: str, port: int) -> ASGIApp:
    """The web application of a review."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("review.html.j2")

    def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'"
        )
        html = template.render(nonce=nonce, plan=session.plan.name)
        headers = {"Content-Security-Policy": policy}
        return Response(html, headers=headers, media_type="text/html")

    def standing(request: Request) -> Response:
        return _json(session.standing())

    def sample(request: Request) -> Response:
        try:
            return _json(session.view(request.path_params["number"]))
        except IndexError:
            return _error("there is no sample of this number", 404)

    async def decide(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                return _error(f"more than {MOST_BYTES:,} bytes; shorten the text", 413)
        try:
            wanted = Decision.model_validate_json(body)
        except ValidationError as error:
            return _error(f"no decision: {error.errors()[0]['msg']}", 400)
        try:
            return _json(await run_in_threadpool(session.decide, wanted))
        except KeyError:
            return _error("this sample is not under review; reload the page", 404)
        except ValueError as error:
            return _error(str(error), 400)
        except (StillhouseError, Outcome) as error:
            return _error(str(error), 503)

    def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _error("there is nothing here" if status == 404 else "not allowed", status)

    routes = [
        Route("/", page),
        Route("/standing", standing),
        Route("/sample/{number:int}", sample),
        Route("/decide", decide, methods=["POST"]),
    ]
    inner = Starlette(
        routes=[Mount(f"/{token}", routes=routes)], exception_handlers={HTTPException: failed}
    )
    return Guard(inner, token, port)


def server_of(app: ASGIApp) -> uvicorn.Server:
    """A quiet server; `run(sockets=[...])` serves until `should_exit`."""
    config = uvicorn.Config(
        app, lifespan="off", ws="none", log_level="error", access_log=False,
        server_header=False, timeout_graceful_shutdown=35,
    )  # fmt: skip
    return uvicorn.Server(config)


def review(
    plan_path: str,
    overrides: Sequence[str] = (),
    only: str = "undecided",
    limit: int | None = None,
    port: int = 0,
    open_page: bool | None = None,
) -> None:
    """Serve the review page of a plan until Ctrl-C, then print how far the scorers agree.

    Args:
        plan_path: The plan file.
        overrides: The plan's overrides.
        only: undecided, all, dropped or kept.
        limit: Maximum number of samples.
        port: 0: any free one.
        open_page: Whether to open a browser; None: where stdout is a terminal.

    Raises:
        PlanError: the plan cannot be used.
        UsageError: `only` is none of them.
        UsageError: there is nothing to review.
    """
    if only not in get_args(Only):
        raise UsageError(f"unknown --only '{only}' ({did_you_mean(only, list(get_args(Only)))})")
    plan = load_plan(plan_path, overrides)
    session = Session(plan, open_store(plan), cast(Only, only), limit)
    token = secrets.token_urlsafe(24)
    with listen(port) as listening:
        port = listening.getsockname()[1]
        url = f"http://127.0.0.1:{port}/{token}/"
        print(f"{format_count(len(session.samples), 'sample')} to review; Ctrl-C ends")
        print(url)
        sys.stdout.flush()
        if sys.stdout.isatty() if open_page is None else open_page:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server_of(app_of(session, token, port)).run(sockets=[listening])
        except KeyboardInterrupt:
            print()  # uvicorn ends first, then hands the signal on
        finally:
            signal.signal(signal.SIGTERM, before)
    print_agreements(session.agreements())
    print(
        f"{session.made} decided now, {sum(session.standing()['decided'])} of "
        f"{len(session.samples)} in all; `distill curate {plan_path}` takes them into account"
    )


def print_agreements(rows: Sequence[Agreement]) -> None:
    """A line for each bound."""
    if not rows:
        print("no decided sample has a score with a bound, so there is no agreement to show")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("bound", "n", "agree", "95 %", "kappa", "ROC AUC", "abstained"):
        table.add_column(name, justify="left" if name == "bound" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.key, str(row.n), f"{row.agreement:.2f}", f"{row.low:.2f} to {row.high:.2f}",
            "-" if row.kappa is None else f"{row.kappa:.2f}",
            "-" if row.roc_auc is None else f"{row.roc_auc:.2f}", str(row.abstained),
        )  # fmt: skip
    Console(width=max(Console().width, 100)).print(table, markup=False)
    print("of the decided samples only: the uncertain ones come first, so on all it is likely more")
