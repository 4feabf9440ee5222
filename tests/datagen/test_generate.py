from datagen.generate import as_reply, pending, requests_for, to_call, to_failure
from datagen.teacher import Reply, Request, Sampling, Usage
from warehouse.errors import PromptRejected, TransientError
from warehouse.records import Prompt

SAMPLING = Sampling(temperature=0.5, max_tokens=10, stop=["\n"])


def prompt(text: str, seed: int | None = None) -> Prompt:
    messages = [{"role": "user", "content": text}]
    return Prompt.of(recipe="plain", messages=messages, question=text, seed=seed)


def replied(request: Request) -> Reply:
    return Reply(request, "yes", "stop", Usage(3, 1), 0.2, 0.01, {"id": "x"})


def test_one_request_per_prompt_and_seed_in_order():
    requests = requests_for([prompt("a"), prompt("b"), prompt("a", seed=4)], "t", SAMPLING)
    assert [request.messages[0]["content"] for request in requests] == ["a", "b", "a"]
    assert [request.sampling.seed for request in requests] == [None, None, 4]
    assert len({request.call_id for request in requests}) == 3
    assert requests[0].call_id != requests_for([prompt("a")], "other", SAMPLING)[0].call_id


def test_max_tokens_is_no_part_of_a_call():
    longer = Sampling(temperature=0.5, max_tokens=99, stop=["\n"])
    one, other = (requests_for([prompt("a")], "t", how)[0] for how in (SAMPLING, longer))
    assert one.call_id == other.call_id


def test_pending_is_what_was_not_paid_once_each():
    a, b, again = requests_for([prompt("a"), prompt("b"), prompt("a")], "t", SAMPLING)
    assert pending([a, b, again], {}) == [a, b]
    assert pending([a, b, again], {a.call_id: to_call(replied(a), "t", "r")}) == [b]


def test_a_call_gives_back_the_reply():
    [request] = requests_for([prompt("a")], "t", SAMPLING)
    call = to_call(replied(request), "t", "run-1")
    assert as_reply(call, request) == replied(request)
    assert (call.max_tokens, call.teacher, call.run_id) == (10, "t", "run-1")
    assert "max_tokens" not in call.sampling and call.sampling["stop"] == ["\n"]


def test_only_tries_used_up_may_be_asked_again():
    [request] = requests_for([prompt("a")], "t", SAMPLING)
    final = to_failure(Reply(request, error=PromptRejected("too long")), "r", "generate")
    passing = to_failure(Reply(request, error=TransientError("HTTP 503")), "r", stage="judge")
    assert (final.permanent, final.stage, final.subject) == (True, "generate", request.subject)
    assert (passing.permanent, passing.stage) == (False, "judge")
    assert final.error == "PromptRejected: too long"
