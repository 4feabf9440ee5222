"""The review: what is shown, what is written, who is let in, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from distill.plan import load_plan
from flows.estimate import prompts_of
from flows.review import MOST_BYTES, app_of, listen, print_agreements
from flows.review_session import Decision, Session
from quality.review import accept, decisions, reject
from tests.plans import rows, write_rows
from warehouse.catalog import options_of
from warehouse.errors import StageError
from warehouse.records import Choice, Run, Sample, Score
from warehouse.store import Store

TOKEN = "t0ken"
HOST = "127.0.0.1:8123"
ORIGIN = {"origin": f"http://{HOST}"}
NASTY = "<script>document.title='taken'</script><img src=x onerror=alert(1)>\u202e ‮اللون\x07"
PLAN = """
name = "animals"
warehouse = "w.duckdb"
[teacher]
use = "scripted"
default = "blue"
[[datagen.recipe]]
use = "imitation"
prompts = "prompts.jsonl"
[quality]
scorers = [{ use = "grounded" }]
gate = { grounded_min = 0.5 }
"""


def write_world(folder, values=(0.9, 0.4, 0.6, None), completions=(), name="plan.toml"):
    """A plan whose samples are generated, scored and chosen from; answers its path and samples."""
    path = folder / name
    path.write_text(PLAN)
    write_rows(folder / "prompts.jsonl", rows(0, len(values)))
    plan = load_plan(path)
    grounded = plan.quality.scorers[0]
    made = []
    for number, ((_, prompt), value) in enumerate(zip(prompts_of(plan), values, strict=True)):
        text = completions[number] if number < len(completions) else prompt.reference[0]
        sample = Sample.of(
            prompt, call_ids=[f"call{number}"], recipe_version="1", completion=text, status="ok"
        )
        options = options_of(grounded)
        why = "no passage" if value is None else "overlap of words"
        score = Score(
            Score.id_of(sample.sample_id, "grounded", grounded.version, "rule", options),
            sample.sample_id, "grounded", grounded.version, "rule", options, value, why,
        )  # fmt: skip
        reasons = [] if value and value >= 0.5 else ["grounded below 0.5"]
        choice = Choice(
            "selection", sample.sample_id, not reasons, reasons[0] if reasons else "kept", reasons
        )
        made.append((sample, score, choice))
    run = Run(
        "run", plan.name, plan.plan_hash, plan.as_json(), "completed", None, {},
        {"verb": "curate", "selection_id": "selection"}, datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    store(folder).insert([run, *(record for records in made for record in records)])
    return path, [sample for sample, _, _ in made]


def store(folder):
    return Store((folder / "w.duckdb").resolve())


def session_of(folder, path, **options):
    return Session(load_plan(path), store(folder), **options)


def names(session):
    return [sample.sample_id for sample in session.samples]


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


# What is shown


def test_the_uncertain_ones_come_first_and_all_is_told_of_them(world):
    folder, path, samples = world
    session = session_of(folder, path)
    # 0.4 fails, 0.6 and 0.9 pass: the bound divides at 0.5
    assert names(session)[0] == samples[3].sample_id
    assert names(session)[3] == samples[0].sample_id
    first, last = session.view(0), session.view(3)
    assert first["scores"] == [
        {"name": "grounded", "value": None, "bound": "at least 0.5", "state": "abstained", "why": "no passage"}
    ]  # fmt: skip
    assert (first["kept"], first["reasons"]) == (False, ["grounded below 0.5"])
    assert (last["kept"], last["scores"][0]["state"]) == (True, "pass")
    assert last["question"] == "What colour is otter 0?" and "river" in last["passage"]
    assert last["decision"] is None


def test_the_duplicate_that_was_met_is_told(world):
    folder, path, samples = world
    met = {"duplicate": {"of": "abc", "similarity": 0.95}, "why": {"grounded": "no span"}}
    plan = load_plan(path)
    made_by = (plan.name, plan.plan_hash, plan.as_json())
    run = Run("x", *made_by, "completed", None, {}, {"selection_id": "d"})
    one = Choice("d", samples[1].sample_id, False, "near duplicate", ["near duplicate"], met)
    store(folder).insert([run, one])
    assert session_of(folder, path).view(0)["details"] == ["duplicate: of abc, similarity 0.95"]


def test_which_and_how_many_can_be_said(world):
    folder, path, samples = world
    assert set(names(session_of(folder, path, only="kept"))) == {
        samples[0].sample_id,
        samples[2].sample_id,
    }
    assert len(names(session_of(folder, path, only="dropped"))) == 2
    assert len(names(session_of(folder, path, limit=3))) == 3
    store(folder).insert([accept(samples[3])])
    assert samples[3].sample_id not in names(session_of(folder, path))
    assert names(session_of(folder, path, only="all"))[-1] == samples[3].sample_id


def test_nothing_to_review_is_told_in_one_line(world, tmp_path_factory):
    folder, path, samples = world
    store(folder).insert([reject(sample) for sample in samples])
    with pytest.raises(StageError, match="none of 4 samples is undecided"):
        session_of(folder, path)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "plan.toml").write_text(PLAN)
    write_rows(empty / "prompts.jsonl", rows(0, 2))
    with pytest.raises(StageError, match="run `distill curate PLAN` first"):
        session_of(empty, empty / "plan.toml")


def test_the_newest_selection_is_shown(world):
    folder, path, samples = world
    plan = load_plan(path)
    later = Run(
        "later", plan.name, plan.plan_hash, plan.as_json(), "completed", None, {},
        {"verb": "run", "selection_id": "another"}, datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    store(folder).insert([later, Choice("another", samples[1].sample_id, True, "kept", [])])
    assert names(session_of(folder, path)) == [samples[1].sample_id]


def test_a_plan_that_changed_elsewhere_still_finds_its_samples(world):
    folder, path, samples = world
    path.write_text(path.read_text() + '[train]\nbase = "nowhere"\n')
    session = session_of(folder, path)
    assert set(names(session)) == {sample.sample_id for sample in samples}


def test_what_another_gate_chose_is_not_shown(world):
    folder, path, _ = world
    path.write_text(path.read_text().replace("grounded_min = 0.5", "grounded_min = 0.7"))
    with pytest.raises(StageError, match="is not what its samples were curated with"):
        session_of(folder, path)


def test_accepting_a_refusal_makes_it_an_answer_that_can_be_trained_on(world):
    folder, path, samples = world
    refused = replace(samples[0], sample_id="refused", status="refused", status_reason="declines")
    choice = Choice("selection", "refused", False, "status: refused", ["status: refused"])
    store(folder).insert([refused, choice])
    session = session_of(folder, path)
    assert names(session)[-1] == "refused"
    assert session.view(4)["status"] == "refused: declines"
    told = session.decide(Decision(sample_id="refused", verdict="accept"))
    assert told["decision"]["verdict"] == "accepted"
    (new,) = [
        s for s in store(folder).read(Sample) if s.sample_id not in {"refused", *names(session)}
    ]
    assert (new.status, new.completion) == ("ok", refused.completion)
    assert decisions(session.human)[new.sample_id].value == 1.0


def test_scores_of_other_options_are_not_shown(world):
    folder, path, samples = world
    other = Score("x", samples[0].sample_id, "grounded", "0", "rule", {}, 0.0, None)
    store(folder).insert([other])
    session = session_of(folder, path, only="all")
    views = [session.view(number) for number in range(4)]
    assert [v["scores"][0]["value"] for v in views if v["sample_id"] == samples[0].sample_id] == [
        0.9
    ]


# What is written


def test_decisions_are_written_and_outlast_the_session(world):
    folder, path, samples = world
    session = session_of(folder, path)
    a, b, c, d = (sample.sample_id for sample in samples)
    session.decide(Decision(sample_id=a, verdict="accept", comment="good"))
    session.decide(Decision(sample_id=b, verdict="reject"))
    told = session.decide(Decision(sample_id=c, verdict="edit", text="dark black"))
    assert told["decision"] == {"verdict": "edited", "comment": "", "text": "dark black"}
    session.decide(Decision(sample_id=d, verdict="accept"))
    told = session.decide(Decision(sample_id=d, verdict="undo"))
    assert told["decision"] is None and told["decided"].count(True) == 3
    assert session.made == 3
    found = decisions(store(folder).read(Score))
    assert {key: found[key].value for key in (a, b, c)} == {a: 1.0, b: 0.0, c: 0.0}
    assert d not in found
    assert found[a].why == "good"
    (edited,) = store(folder).by_ids(Sample, "sample_id", [found[c].details["edited_to"]])
    assert edited.completion == "dark black" and found[edited.sample_id].value == 1.0
    again = session_of(folder, path, only="all")
    view = next(v for v in map(again.view, range(4)) if v["sample_id"] == c)
    assert view["decision"]["text"] == "dark black"
    assert again.made == 0


def test_undo_brings_back_what_was_decided_before(world):
    folder, path, samples = world
    store(folder).insert([reject(samples[0])])
    session = session_of(folder, path, only="all")
    one = samples[0].sample_id
    session.decide(Decision(sample_id=one, verdict="accept"))
    told = session.decide(Decision(sample_id=one, verdict="undo"))
    assert told["decision"]["verdict"] == "rejected"
    assert session.made == 0


def test_an_edit_is_what_the_next_curate_starts_from(world):
    """`read_hand` reads decisions and edits from the store as this session writes them."""
    from quality.review import with_edits

    folder, path, samples = world
    session = session_of(folder, path)
    session.decide(Decision(sample_id=samples[0].sample_id, verdict="edit", text="umber"))
    human = store(folder).read(Score, "scorer = 'human'")
    ids = [s.details["edited_to"] for s in human if "edited_to" in s.details]
    edits = {s.sample_id: s for s in store(folder).by_ids(Sample, "sample_id", ids)}
    assert next(iter(with_edits(samples, human, edits))).completion == "umber"


def test_another_process_can_write_between_decisions(world):
    folder, path, samples = world
    session = session_of(folder, path)
    code = (
        "import sys; from pathlib import Path; from warehouse.store import Store\n"
        "from warehouse.records import Failure\n"
        "Store(Path(sys.argv[1])).insert([Failure('r', 'curate', 's', 'e', False)])"
    )
    session.decide(Decision(sample_id=samples[0].sample_id, verdict="accept"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(store(folder).path)], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    session.decide(Decision(sample_id=samples[1].sample_id, verdict="accept"))
    assert len(decisions(store(folder).read(Score))) == 2


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

    monkeypatch.setattr("warehouse.store._WAIT_S", 0.2)
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
        with pytest.raises(StageError, match=f"port {port} can not be used"):
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
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "review", str(path), "--only", "undecide"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "did you mean 'undecided'" in done.stderr and "Traceback" not in done.stderr
