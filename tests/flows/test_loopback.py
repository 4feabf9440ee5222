"""What a page of another origin, or a rebound name, gets from a local server; run requests."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.runtime.loopback import LoopbackGuard
from tests.support.plans import write_plan

PORT = 4711


@pytest.fixture
def guarded():
    """A guarded application, and what reached it."""
    reached = []

    def answer(request):
        reached.append(request.url.path)
        return PlainTextResponse("done")

    async def talk(socket: WebSocket):
        reached.append(socket.url.path)
        await socket.accept()
        await socket.close()

    app = Starlette(
        routes=[Route("/start", answer, methods=["GET", "POST"]), WebSocketRoute("/talk", talk)]
    )
    return TestClient(LoopbackGuard(app, PORT), f"http://127.0.0.1:{PORT}"), reached


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"http://localhost:{PORT}"},  # the request says 127.0.0.1
        {"origin": f"https://127.0.0.1:{PORT}"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"host": f"evil.example:{PORT}"},  # a name that was rebound to this machine
        {"host": "127.0.0.1"},
        {"host": f"evil.example:{PORT}", "origin": f"http://evil.example:{PORT}"},
    ],
)
def test_a_foreign_page_or_host_reaches_nothing(guarded, headers):
    client, reached = guarded
    assert client.post("/start", headers=headers).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/talk", headers=headers):
        pass
    assert reached == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": f"http://127.0.0.1:{PORT}"},
        {"host": f"localhost:{PORT}", "origin": f"http://localhost:{PORT}"},
    ],
)
def test_its_own_page_and_programs_pass(guarded, headers):
    client, reached = guarded
    assert client.get("/start", headers=headers).text == "done"
    with client.websocket_connect(f"ws://127.0.0.1:{PORT}/talk", headers=headers):
        pass
    assert reached == ["/start", "/talk"]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A flow of a served plan; what it would have run."""
    from flows.schedule import serve, tick

    ran = []

    def run_tick(*values):
        ran.append(values)
        return {"state": "done", "reason": "all of it"}

    plan = write_plan(tmp_path, '[teacher]\nuse = "scripted"\n', prompts=4)
    served = {"small": {"plan": str(plan), "overrides": ["datagen.budget_usd=2.0"]}}
    monkeypatch.setenv(serve._SERVED, json.dumps(served))
    monkeypatch.setattr(serve, "deployment", SimpleNamespace(name="small"))
    monkeypatch.setattr(tick, "run_tick", run_tick)
    return serve.scheduled_run, ran, str(plan)


@pytest.mark.parametrize(
    ("asked", "overrides"),
    [
        ({}, []),
        ({"budget_usd": 0.5}, ["datagen.budget_usd=0.5"]),
        ({"budget_usd": 1000.0}, []),  # a request never raises what the plan allows
        ({"budget_tokens": 100}, ["datagen.budget_tokens=100"]),
        ({"stage": "curate"}, []),
    ],
)
def test_a_run_request_makes_the_served_plan_cheaper_at_most(served, asked, overrides):
    flow, ran, plan = served
    flow.fn(**flow.validate_parameters(asked))
    assert ran == [(plan, ["datagen.budget_usd=2.0", *overrides], asked.get("stage"))]


@pytest.mark.parametrize(
    "asked",
    [
        {"plan_path": "/etc/passwd"},
        {"overrides": ['teacher.base_url="http://evil.example"']},
        {"env_file": ".env"},
        {"budget_usd": 'inf"\nteacher.api_key_env="AWS_SECRET"'},
        {"budget_usd": "inf"},
        {"budget_usd": -1},
        {"budget_tokens": 1.5},
        {"stage": "everything"},
    ],
)
def test_a_run_request_with_other_parameters_is_refused(served, asked):
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError
    from prefect.utilities.callables import parameters_to_args_kwargs

    flow, ran, _ = served

    def start():  # as Prefect's engine does, whatever the server let pass
        parameters_to_args_kwargs(flow.fn, asked)
        flow.validate_parameters(asked)

    with pytest.raises((ParameterTypeError, SignatureMismatchError)):
        start()
    assert flow.should_validate_parameters
    assert ran == []


def test_a_run_without_a_served_plan_is_refused(served, monkeypatch):
    from flows.schedule import serve
    from warehouse.errors import PlanError

    flow, ran, _ = served
    monkeypatch.setattr(serve, "deployment", SimpleNamespace(name="another"))
    with pytest.raises(PlanError, match="no such plan is served here"):
        flow.fn()
    monkeypatch.delenv(serve._SERVED)
    with pytest.raises(PlanError, match="no such plan is served here"):
        flow.fn()
    assert ran == []
