"""The review page: who is let in, what comes back, how it starts and ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from flows.review.server import MOST_BYTES, app_of, listen, print_agreements
from tests.support.cli import distill
from tests.support.reviewing import NASTY, session_of, write_world
from warehouse.errors import UsageError

TOKEN = "t0ken"
HOST = "127.0.0.1:8123"
ORIGIN = {"origin": f"http://{HOST}"}


@pytest.fixture
def world(tmp_path):
    path, samples = write_world(tmp_path)
    return tmp_path, path, samples


@pytest.fixture
def web(world):
    folder, path, _ = world
    session = session_of(folder, path)
    app = app_of(session, TOKEN, 8123)
    with TestClient(app, base_url=f"http://{HOST}/{TOKEN}/", follow_redirects=False) as client:
        client.session = session
        yield client


# Who is let in


def decide(web, **changes):
    body = {"sample_id": web.session.samples[0].sample_id, "verdict": "accept"} | changes
    return web.post("decide", json=body, headers=ORIGIN)


def test_the_page_comes_with_a_policy_and_a_fresh_nonce(web):
    first, second = web.get(""), web.get("")
    assert first.status_code == 200
    policy = first.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert len(nonce) > 16 and nonce not in second.text
    assert first.text.count(f'nonce="{nonce}"') == 2
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["referrer-policy"] == "no-referrer"
    assert "http://" not in first.text and "https://" not in first.text


@pytest.mark.parametrize("path", ["/", "/wrong/", "/t0ke/", f"/{TOKEN}x/", "/%ff/", "/é/", ""])
def test_without_the_token_nothing_is_answered(web, path):
    answer = web.get(f"http://{HOST}{path}")
    assert answer.status_code == 403
    assert "right token" in answer.json()["error"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "host", ["evil.example:8123", "127.0.0.1", "127.0.0.1:8124", "localhost", "[::1]:8123", ""]
)
def test_another_host_name_is_refused(web, host):
    assert web.get("standing", headers={"host": host}).status_code == 403


def test_localhost_is_this_machine_too(web):
    assert web.get("standing", headers={"host": "localhost:8123"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": f"https://{HOST}"},
        {"origin": "http://localhost:8123"},
    ],
)
def test_a_decision_of_a_foreign_page_is_refused(web, headers):
    body = {"sample_id": web.session.samples[0].sample_id, "verdict": "accept"}
    assert web.post("decide", json=body, headers=headers).status_code == 403
    assert web.session.made == 0


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
)
def test_a_decision_that_is_not_json_is_refused(web, kind):
    answer = web.post("decide", content=b"{}", headers={**ORIGIN, "content-type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"verdict": "perhaps"}, 400, "no decision"),
        ({"more": 1}, 400, "no decision"),
        ({"sample_id": "nobody"}, 404, "not under review"),
        ({"verdict": "undo"}, 400, "nothing to undo"),
        ({"verdict": "edit", "text": "  "}, 400, "needs a completion"),
        ({"verdict": "edit", "text": "x" * MOST_BYTES}, 413, "shorten"),
    ],
)
def test_a_faulty_decision_is_told_and_not_written(web, changes, status, told):
    answer = decide(web, **changes)
    assert answer.status_code == status
    assert told in answer.json()["error"]
    assert web.session.human == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"sample_id": "\\ud800"}'])
def test_broken_json_is_told(web, body):
    headers = {**ORIGIN, "content-type": "application/json"}
    assert web.post("decide", content=body, headers=headers).status_code == 400


def test_half_a_surrogate_is_refused(web):
    one = web.session.samples[0].sample_id
    body = f'{{"sample_id": "{one}", "verdict": "edit", "text": "a\\ud800"}}'.encode()
    headers = {**ORIGIN, "content-type": "application/json; charset=utf-8"}
    assert web.post("decide", content=body, headers=headers).status_code == 400
    assert web.session.human == []


def test_only_what_is_there_is_there(web):
    assert web.get("sample/4").status_code == 404
    assert web.get("../x").status_code == 403
    assert web.get("nothing").status_code == 404
    assert web.get("decide").status_code == 405
    assert web.put("decide", json={}).status_code in (403, 405)


def test_a_decision_comes_back_with_how_things_stand(web):
    answer = decide(web, comment="fine")
    assert answer.status_code == 200
    assert answer.json()["decided"] == [True, False, False, False]
    assert answer.json()["decision"] == {"verdict": "accepted", "comment": "fine", "text": None}


def test_a_held_warehouse_is_told_and_nothing_is_taken_for_written(web, monkeypatch):
    import duckdb

    monkeypatch.setattr("warehouse.db.store._WAIT_S", 0.2)
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    path = str(web.session.store.path)
    held = subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        held.stdout.readline()
        answer = decide(web)
    finally:
        held.communicate(b"\n", timeout=60)
    assert answer.status_code == 503
    assert "held by another process" in answer.json()["error"]
    assert web.get("standing").json()["decided"] == [False] * 4
    with duckdb.connect(path, read_only=True) as db:
        assert db.execute("SELECT count(*) FROM scores WHERE scorer = 'human'").fetchone() == (0,)
    assert decide(web).status_code == 200


def test_markup_goes_out_as_text_in_json(tmp_path):
    path, _ = write_world(tmp_path, (0.5,), (NASTY,))
    app = app_of(session_of(tmp_path, path), TOKEN, 8123)
    with TestClient(app, base_url=f"http://{HOST}/{TOKEN}/") as client:
        answer = client.get("sample/0")
        assert "onerror" not in client.get("").text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["completion"] == NASTY
    assert answer.json()["hidden"] == ["U+0007 control × 1", "U+202E RIGHT-TO-LEFT OVERRIDE × 2"]


# How it starts and ends


def test_the_server_listens_on_the_loopback_only():
    with listen() as free:
        address, port = free.getsockname()
        assert address == "127.0.0.1" and port > 0
        with pytest.raises(UsageError, match=f"port {port} cannot be used"):
            listen(port)


def test_agreement_is_printed(capsys):
    print_agreements([])
    assert "no decided sample" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_the_agreement(world, number):
    import json
    import urllib.request

    folder, path, samples = world
    child = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "review", str(path), "--no-open", "--only", "all"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "4 samples" in child.stdout.readline()
        url = child.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        origin = url.rpartition("/")[0].rpartition("/")[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for sample, verdict in zip(samples, ("accept", "reject"), strict=False):
            body = json.dumps({"sample_id": sample.sample_id, "verdict": verdict}).encode()
            headers = {"Content-Type": "application/json", "Origin": origin}
            request = urllib.request.Request(f"{url}decide", body, headers)
            with opener.open(request, timeout=60) as answer:
                assert answer.status == 200
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, err
    assert err == ""
    assert "grounded_min" in out and "1.00" in out
    assert "2 decided now, 2 of 4 in all" in out


def test_an_unknown_choice_of_samples_is_told(world):
    folder, path, _ = world
    done = distill(folder, "review", path, "--only", "undecide")
    assert done.returncode == 2
    assert "did you mean 'undecided'" in done.stderr and "Traceback" not in done.stderr
