"""Replies stored under another spelling of the teacher's address are found, with their own ids."""

from dataclasses import replace

from datagen.generate import requests_for, to_call
from datagen.teacher import Reply, Sampling
from datagen.teachers.openai_chat import OpenaiChat
from flows.runtime.paid_calls import find_paid_ids, load_paid_calls
from tests.datagen.test_generate import prompt
from warehouse.db.store import Store


def requests_of(teacher, numbers):
    return requests_for([prompt(str(n)) for n in numbers], teacher.identity, Sampling())


def stored(store, teacher, numbers):
    replies = [
        Reply(request, f"by {teacher.base_url}") for request in requests_of(teacher, numbers)
    ]
    store.insert([to_call(reply, teacher.identity, "r", "generate") for reply in replies])


def test_a_reply_under_another_spelling_serves_and_keeps_its_id(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    old = OpenaiChat(model="m", base_url="http://localhost:8000/v1/")
    new = replace(old, base_url="http://127.0.0.1:8000/v1")
    other = replace(old, base_url="http://127.0.0.1:8001/v1")
    stored(store, old, range(3))
    stored(store, other, range(5))
    stored(store, new, [2])
    asked = requests_of(new, range(4))
    found = load_paid_calls(store, new, asked)
    assert list(found) == [asked[2].call_id, asked[0].call_id, asked[1].call_id]
    ids = [request.call_id for request in requests_of(old, range(2))]
    assert [found[request.call_id].call_id for request in asked[:2]] == ids
    assert found[asked[2].call_id].text == "by http://127.0.0.1:8000/v1"  # its own goes first
    assert find_paid_ids(store, new, asked) == found.keys()
    assert find_paid_ids(store, other, requests_of(other, range(5))) != found.keys()


def test_a_reply_of_an_earlier_version_is_read_as_todays_is(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    teacher = OpenaiChat(model="m", base_url="http://localhost:8000/v1")
    [asked] = requests_of(teacher, [0])
    old = Reply(asked, "Norway, so\n</think>\n\nOslo", finish_reason="MAX_TOKENS")
    store.insert([to_call(old, teacher.identity, "r", "generate")])
    call = load_paid_calls(store, teacher, [asked])[asked.call_id]
    assert (call.text, call.reasoning, call.finish_reason) == ("Oslo", "Norway, so", "length")
    longer = replace(asked, sampling=replace(asked.sampling, max_tokens=9_999))
    assert load_paid_calls(store, teacher, [longer]) == {}


def test_a_warehouse_without_calls_has_none(tmp_path):
    teacher = OpenaiChat(model="m", base_url="http://localhost:8000/v1")
    asked = requests_of(teacher, range(2))
    assert load_paid_calls(Store(tmp_path / "w.duckdb"), teacher, asked) == {}
    assert find_paid_ids(Store(tmp_path / "w.duckdb"), teacher, asked) == set()
