"""What error answers of many servers mean, and how long they ask to wait."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.openai.error_answers import ErrorKind, read_error, sort_error
from datagen.openai.waits import LONGEST_S, retry_after_s, seconds, used_up_s


def error(message, kind=None, code=None, **more):
    return {"error": {"message": message, "type": kind, "code": code, **more}}


PROMPT, RUN, WAIT, AGAIN = ErrorKind.PROMPT, ErrorKind.RUN, ErrorKind.OVERLOAD, ErrorKind.TRANSIENT

ANSWERS = [
    # too long for the model, whatever the status
    (500, error("the request exceeds the available context size. try increasing it", code=500), PROMPT),
    (400, error("the request exceeds the available context size", "exceed_context_size_error"), PROMPT),
    (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens", "type": "BadRequestError", "code": 400}, PROMPT),
    (400, error("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"), PROMPT),
    (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096", "error_type": "validation"}, PROMPT),
    (413, error("Request too large", "tokens"), PROMPT),
    (429, error("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000. The input or output tokens must be reduced in order to run successfully.", "tokens", "rate_limit_exceeded"), PROMPT),
    (400, [error("The input token count (9000) exceeds the maximum number of tokens allowed (8192).", code=400)], PROMPT),
    (200, error("Input is too long for requested model.", code=400), PROMPT),
    # refused content
    (403, error("Your chosen model requires moderation and your input was flagged", code=403), PROMPT),
    (400, error("The response was filtered due to the prompt triggering Azure's content management policy", code="content_filter"), PROMPT),
    (400, error("Input data may contain inappropriate content.", code="data_inspection_failed"), PROMPT),
    (400, {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "missing"}]}, PROMPT),
    (422, "no such thing", PROMPT),
    # the account
    (429, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), RUN),
    (429, error("You exceeded your current quota, please check your plan"), RUN),
    (402, error("Credit limit exceeded", "credit_limit"), RUN),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"}}, RUN),
    (403, error("The account is suspended: insufficient balance", "exceeded_current_quota_error"), RUN),
    (200, error("Insufficient credits", code=402), RUN),
    # the key
    (401, error("bad"), RUN),
    (400, [error("API key not valid. Please pass a valid API key.", code=400, status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}])], RUN),
    (403, error("forbidden"), RUN),
    (407, "", RUN),
    # the model, the path
    (404, error("The model `gpt-9` does not exist", code="model_not_found"), RUN),
    (400, error("The model `gpt-9` does not exist or you do not have access", code="model_not_found"), RUN),
    (400, {"error": "model 'qwen9' not found, try pulling it first"}, RUN),
    (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, RUN),
    (404, {"detail": "Not Found"}, RUN),
    (405, {"detail": "Method Not Allowed"}, RUN),
    (501, "<!DOCTYPE HTML><title>Error response</title>Unsupported method ('POST').", RUN),
    (503, error("No available channel for model x", code="model_not_found"), RUN),
    (504, error("gone", code="model_not_found"), RUN),
    # their words alone, where a passing fault or a quoted prompt may have them
    (503, error("The model `x` does not exist on this replica yet"), WAIT),
    (504, error("upstream: page not found"), AGAIN),
    (500, error("worker says: model x not found"), AGAIN),
    (502, "<html><h1>unknown route</h1></html>", AGAIN),
    (200, error("unknown model", code=503), WAIT),
    (413, error("no such model in the text"), PROMPT),
    (400, error("Unsupported parameter: 'temperature'", code="unsupported_parameter"), RUN),
    # too much at once
    (429, [{"error": {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "2s"}]}}], WAIT),
    (429, error("Rate limit reached for requests"), WAIT),
    (200, error("Rate limit exceeded: free-models-per-day", code=429), WAIT),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, WAIT),
    (503, {"error": "Model is loading", "estimated_time": 20.5}, WAIT),
    (500, error("slow down", "rate_limit_error"), WAIT),
    (503, "<html><title>503 Service Temporarily Unavailable</title></html>", WAIT),
    # passing
    (500, error("internal error"), AGAIN),
    (502, "<html><h1>Bad Gateway</h1></html>", AGAIN),
    (200, error("Provider disconnected", code=502), AGAIN),
    (200, {"error": {"message": "upstream"}}, AGAIN),
    (408, "", AGAIN),
    (500, b"\xff\xfe\x00", AGAIN),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "verdict"), ANSWERS)
def test_an_error_answer_has_one_meaning_as_a_value_and_as_text(status, body, verdict):
    as_text = body if isinstance(body, (str, bytes)) else orjson.dumps(body).decode()
    for form in (body, as_text):
        assert sort_error(read_error(status, form))[0] is verdict


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, error("the prompt says: model x not found"), PROMPT),
        (422, error("unknown route"), PROMPT),
        (200, error("unknown url"), AGAIN),
        (404, error("The model `x` does not exist"), AGAIN),
        (404, "", AGAIN),
        (405, "", AGAIN),
        (501, "", AGAIN),
        (503, error("no channel", code="model_not_found"), WAIT),
        (500, error("no channel", code="model_not_found"), AGAIN),
        # a code, and what may change in a run, still stop it
        (404, error("gone", code="model_not_found"), RUN),
        (400, error("gone", code="model_not_found"), RUN),
        (400, error("Your credit balance is too low to access the API"), RUN),
        (429, error("You exceeded your current quota, please check your plan"), RUN),
        (400, error("API key not valid"), RUN),
        (401, "", RUN),
        (403, "", RUN),
        (402, "", RUN),
    ],
)
def test_a_good_reply_refutes_that_there_is_no_such_path_or_model(status, body, verdict):
    assert sort_error(read_error(status, body), has_answered=True)[0] is verdict


def test_the_servers_own_words_are_shown():
    words = {
        "boom": [{"error": {"message": "boom"}}, {"error": "boom"}, {"message": "boom"}, "boom",
                 {"error": {"message": '{"error": {"message": "boom"}}'}}, {"detail": "boom"},
                 [{"error": {"message": "boom"}}], {"error": [{"msg": "boom"}]}],
        "no body": ["", None, {}, [], {"error": {}}],
        "a web page (Sign in to continue)": ["<!doctype html><title>Sign in\n to continue</title>"],
    }  # fmt: skip
    for message, bodies in words.items():
        assert [read_error(400, body).message for body in bodies] == [message] * len(bodies)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "status", "details", "retryDelay"])
        | st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.integers(100, 599), JSON, st.dictionaries(st.text(max_size=20), st.text(max_size=30)))
def test_no_answer_is_beyond_reading(status, body, headers):
    found = read_error(status, body, headers)
    assert isinstance(sort_error(found)[0], ErrorKind)
    assert found.wait_s is None or 0 <= found.wait_s <= LONGEST_S


def test_deep_and_endless_bodies_are_read_in_no_time():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    started = time.process_time()
    assert sort_error(read_error(500, deep))[0] is AGAIN
    assert sort_error(read_error(500, "[" * 100_000))[0] is AGAIN
    assert sort_error(read_error(400, {"error": [{"x": n} for n in range(200_000)]}))[0] is PROMPT
    assert sort_error(read_error(400, {"error": {"message": "a " * 2_000_000}}))[0] is PROMPT
    assert time.process_time() - started < 3
    while deep:  # else the interpreter frees it by recursion
        deep = deep[0]


# waits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2s", 2), ("0.5", 0.5), ("1m30s", 90), ("1m2.5s", 62.5), ("20ms", 0.02), ("6m0s", 360),
        ("1h", 3600), ("1d2h", 93600), ("26 seconds", 26), ("1 minute, 5 seconds", 65), (7, 7),
        ("-3", 0), ("inf", None), ("-inf", None), ("nan", None), ("1e400", None), ("soon", None),
        ("", None), ("9" * 400, None), ("99999999", None), ("1e300", None), ("0", 0),
    ],
)  # fmt: skip
def test_a_wait_is_read_or_unknown(text, expected):
    found = seconds(text)
    assert found == expected or math.isclose(found, expected)


def test_stamps_and_dates_are_moments():
    soon = datetime.now(UTC) + timedelta(seconds=90)
    stamp = soon.timestamp()
    forms = [
        stamp, int(stamp * 1e3), int(stamp * 1e6), str(stamp), soon.isoformat(),
        soon.strftime("%Y-%m-%dT%H:%M:%SZ"), format_datetime(soon, usegmt=True),
    ]  # fmt: skip
    for form in forms:
        assert 85 < seconds(form) <= 90.5, form
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == seconds("1445412480") == 0.0


@pytest.mark.parametrize(
    ("headers", "body", "message", "expected"),
    [
        ({}, [{"error": {"details": [{"retryDelay": "2s"}]}}], "", 2),
        ({"retry-after": "7"}, {"error": {"details": [{"retryDelay": "2s"}]}}, "", 7),
        ({"retry-after": "inf"}, {"retry_after": 3}, "", 3),
        ({}, {"retry_after_ms": 1500}, "", 1.5),
        ({}, {}, "Rate limit reached. Please try again in 7.66s. Visit", 7.66),
        ({}, {}, "Please try again in 6m0s.", 360),
        ({}, {}, "Please retry after 26 seconds.", 26),
        ({}, {"estimated_time": 20.5}, "", 20.5),
        ({}, {}, "try again in a while", None),
    ],
)
def test_what_asks_to_wait(headers, body, message, expected):
    assert retry_after_s(headers, body, message) == expected


def test_a_used_up_limit_in_the_body_counts_as_one_in_the_headers():
    reset = str(int((time.time() + 60) * 1000))
    inner = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    body = {"error": {"code": 429, "metadata": {"headers": inner}}}
    assert 55 < used_up_s({}, body) <= 60
    assert used_up_s({}, {**inner, "X-RateLimit-Remaining": "3"}) is None
    anthropic = {
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": (datetime.now(UTC) + timedelta(seconds=30)).isoformat(),
    }
    assert 25 < used_up_s(anthropic) <= 30
