"""The rules of recipes as durable coroutines, against teachers in memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel

from datagen.ask import Ask, Unanswered, Unparsed
from datagen.conformance import FakeTeacher, check_recipe, run_recipe
from datagen.engine import Engine
from datagen.recipe import Example, Seed
from datagen.reply_status import status_of
from datagen.spending.limits import Budget
from datagen.teacher import Reply, Sampling
from tests.support.steps import Chain, Growing, both, user
from warehouse.errors import PromptRejected, RecipeError, TransientError

HERE = Path()


def echo(messages) -> str:
    return f"re({messages[-1]['content']})"


def teacher(say=echo, **options) -> FakeTeacher:
    return FakeTeacher(say, **options)


def engine_of(fake, **options) -> Engine:
    settings = {
        "identity": fake.identity, "teacher": fake, "sampling": Sampling(), "longest": None,
        "folder": HERE, "budget": Budget(), "ledger": fake, "run_id": "r",
    }  # fmt: skip
    return Engine(**(settings | options))


def run(engine, recipe, seeds=None, prepared=None, may_start=lambda live: True):
    async def go():
        chosen = recipe.seeds(HERE, {}) if seeds is None else iter(seeds)
        async with aclosing(engine.run(recipe, chosen, prepared or {}, may_start)) as outcomes:
            return [outcome async for outcome in outcomes]

    return sorted(asyncio.run(go()), key=lambda outcome: outcome.seed.order)


@dataclass(frozen=True)
class Made(Chain):
    """A chain whose `make` is a function of the test."""

    script: object = None

    async def make(self, seed: Seed, ask: Ask) -> AsyncIterator[Example]:
        async for example in self.script(seed, ask):
            yield example


def made(script, seeds: int = 3) -> Made:
    return Made(seeds_wanted=seeds, script=script)


def test_both_recipes_of_the_tests_keep_the_contract():
    check_recipe(Chain(), HERE, echo)
    check_recipe(Growing(), HERE, echo)


# Rule 1: no hidden inputs.


def test_a_recipe_with_a_hidden_input_is_stopped_before_it_pays_again():
    counter = iter(range(1000))

    async def script(seed, ask):
        reply = await ask(user(f"{seed.value} at {next(counter)}"))
        yield Example(user("q"), reply.text)

    fake = teacher()
    first = run(engine_of(fake), made(script))
    finished = {outcome.seed.seed_id: outcome.call_ids for outcome in first}
    again = engine_of(fake, expected=lambda recipe, seed: finished[seed.seed_id])
    asked = len(fake.asked)
    with pytest.raises(
        RecipeError, match=r"seed 0 \(.{12}\) was finished with 1 calls, and now wants call "
    ):
        run(again, made(script))
    assert len(fake.asked) == asked


def test_seed_random_is_the_same_each_time_and_no_seeds_are_alike():
    draws = [Seed(value).random.random() for value in (1, 2, {"a": 1})]
    assert draws == [Seed(value).random.random() for value in (1, 2, {"a": 1})]
    assert len(set(draws)) == 3


def test_conformance_finds_chance_and_order():
    async def by_chance(seed, ask):
        reply = await ask(user(str(random.random())))
        status, reason = status_of(reply)
        yield Example(user("q"), reply.text, status=status, reason=reason)

    order = []

    async def by_order(seed, ask):
        first = await ask(user(f"a {seed.value}"))
        order.append(seed.value)
        reply = await ask(user(f"{first.text} {len(order)}"))
        status, reason = status_of(reply)
        yield Example(user("q"), reply.text, status=status, reason=reason)

    for script in (by_chance, by_order):
        with pytest.raises(AssertionError, match="draw from seed.random alone|would pay again"):
            check_recipe(made(script, 12), HERE, lambda messages: f"re {messages[-1]['content']}")


# Rule 2: the same messages are the same call; rule 11: single flight.


def test_the_same_messages_are_one_call_also_at_the_same_moment_and_a_draw_is_another():
    async def script(seed, ask):
        texts = await both(ask, "same", "same")
        again = await ask(user("same"))
        other = await ask(user("same"), draw=2)
        warm = await ask(user("same"), temperature=0.5)
        yield Example(user(f"q{seed.value}"), " ".join([*texts, again.text, other.text, warm.text]))

    fake = teacher()
    outcomes = run(engine_of(fake), made(script, 5))
    assert len(fake.asked) == 3
    assert [request.sampling.seed for request in fake.asked] == [None, 2, None]
    assert {len(set(outcome.call_ids)) for outcome in outcomes} == {3}


# Rules 3 and 4: ids and order.


def test_a_version_changes_samples_and_no_call():
    @dataclass(frozen=True)
    class Later(Chain):
        version: ClassVar[str] = "2"

    one, two = teacher(), teacher()
    first, second = (run_recipe(kind(), HERE, fake) for kind, fake in ((Chain, one), (Later, two)))
    assert set(one.calls) == set(two.calls)
    ids = [{s.sample_id for o in each for s in o.samples} for each in (first, second)]
    assert len(ids[0]) == 10 and not ids[0] & ids[1]


def test_an_edit_of_the_last_step_asks_the_last_step_alone():
    fake = teacher()
    run(engine_of(fake), Chain(seeds_wanted=20, steps=3))
    assert len(fake.asked) == 60
    run(engine_of(fake), Chain(seeds_wanted=20, steps=3, last=" shorter"))
    assert len(fake.asked) == 80


def test_replies_in_any_order_give_the_same_samples():
    found = []
    for number in range(4):
        outcomes = run_recipe(Chain(), HERE, teacher(waits=random.Random(number)))
        found.append([sample.sample_id for outcome in outcomes for sample in outcome.samples])
    assert all(ids == found[0] for ids in found) and len(found[0]) == 10


# Rule 9: one seed fails alone.


def test_one_seed_fails_alone_with_the_line_of_its_code():
    async def script(seed, ask):
        reply = await ask(user(str(seed.value)))
        if seed.value == 4:
            {}["colour"]
        yield Example(user(f"q{seed.value}"), reply.text)

    outcomes = run(engine_of(teacher()), made(script, 20))
    assert [outcome.seed.value for outcome in outcomes if outcome.fault] == [4]
    assert outcomes[4].fault.startswith("test_engine.py, line ")
    assert outcomes[4].fault.endswith("KeyError: 'colour'") and not outcomes[4].samples
    assert sum(len(outcome.samples) for outcome in outcomes) == 19


def test_the_same_bug_in_the_first_eight_seeds_stops_the_run():
    async def script(seed, ask):
        await ask(user(str(seed.value)))
        raise ValueError(f"no good: {seed.value}")
        yield

    fake = teacher()
    with pytest.raises(
        RecipeError, match="failed on each of the first 8 seeds: test_engine.py, line"
    ):
        run(engine_of(fake, window=2), made(script, 500))
    assert len(fake.asked) < 12


def test_a_call_without_a_reply_leaves_its_seed_for_the_next_run():
    class Failing(FakeTeacher):
        async def stream(self, requests, budget=None):
            while (request := await requests.next()) is not None:
                self.asked.append(request)
                text = request.messages[-1]["content"]
                if "1" in text:
                    yield Reply(request, error=TransientError("HTTP 503"))
                else:
                    yield Reply(request, echo(request.messages))

        def keep(self, record, reply):
            if reply.error is None:
                super().keep(record, reply)

    async def script(seed, ask):
        reply = await ask(user(f"<{seed.value}>"))
        yield Example(user(f"q{seed.value}"), reply.text)

    async def catching(seed, ask):
        try:
            reply = await ask(user(f"<{seed.value}>"))
        except Unanswered as error:
            yield Example([], "", status="invalid", reason=str(error))
        else:
            yield Example(user(f"q{seed.value}"), reply.text)

    outcomes = run(engine_of(Failing(echo)), made(script, 3))
    assert [outcome.unanswered for outcome in outcomes] == [None, "TransientError: HTTP 503", None]
    outcomes = run(engine_of(Failing(echo)), made(catching, 3))
    assert [o.samples[0].status for o in outcomes] == ["ok", "invalid", "ok"]


def test_calls_side_by_side_keep_their_order_where_one_of_them_has_no_reply():
    class Failing(FakeTeacher):
        async def stream(self, requests, budget=None):
            waiting = []
            while (request := await requests.next()) is not None:
                waiting.append(request)
                if len(waiting) < 3:
                    continue
                yield Reply(waiting[0], error=TransientError("HTTP 503"))
                for each in waiting[:0:-1]:
                    yield Reply(each, each.messages[-1]["content"])

        def keep(self, record, reply):
            if reply.error is None:
                super().keep(record, reply)

    async def script(seed, ask):
        asked = [ask(user(text)) for text in ("a", "b", "c")]
        replies = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(replies[0], Unanswered)
        assert [call.text for call in ask.calls] == ["b", "c"]
        yield Example(user("q"), "x")

    [outcome] = run(engine_of(Failing(echo)), made(script, 1))
    assert outcome.fault is None and len(outcome.samples[0].call_ids) == 2


def test_the_call_of_one_of_several_draws_stands_last_and_decides_whether_it_was_aborted():
    class Aborting(FakeTeacher):
        async def stream(self, requests, budget=None):
            while (request := await requests.next()) is not None:
                is_second = request.sampling.seed == 1
                yield Reply(request, "draw", "aborted" if is_second else "stop")

    async def script(seed, ask):
        for reply in [await ask(user("q"), draw=n) for n in range(3)]:
            call_id = reply.request.call_id
            yield Example(user("q"), reply.text, call_id=call_id, facts={"call": call_id})

    [outcome] = run(engine_of(Aborting(echo)), made(script, 1))
    assert [s.call_ids[-1] for s in outcome.samples] == [s.facts["call"] for s in outcome.samples]
    assert [s.status for s in outcome.samples] == ["ok", "truncated", "ok"]
    assert len({s.sample_id for s in outcome.samples}) == 1  # hashed without their order


@pytest.mark.parametrize("catches", ["except", "gather"])
def test_a_recipe_that_goes_on_after_a_call_that_may_not_be_made_still_waits(catches):
    async def script(seed, ask):
        if catches == "gather":
            await asyncio.gather(ask(user(f"<{seed.value}>")), return_exceptions=True)
        else:
            with contextlib.suppress(Exception):
                await ask(user(f"<{seed.value}>"))
        yield Example(user(f"q{seed.value}"), "made without its reply")

    outcomes = run(engine_of(teacher(), teacher=None), made(script, 3))
    assert [(o.waits, o.is_finished, o.samples) for o in outcomes] == [(True, False, [])] * 3


def test_a_run_that_is_tried_again_draws_the_same_and_forgets_the_error():
    class FailingOnce(FakeTeacher):
        fails = True

        async def stream(self, requests, budget=None):
            if self.fails:
                await requests.next()
                self.fails = False
                raise TransientError("the line is down")
            async for reply in super().stream(requests, budget):
                yield reply

    fake, calm = FailingOnce(echo), teacher()
    engine = engine_of(fake)
    seeds = list(Chain().seeds(HERE, {}))
    with pytest.raises(TransientError):
        run(engine, Chain(), seeds)
    outcomes = run(engine, Chain(), seeds)
    run(engine_of(calm), Chain())
    assert all(outcome.is_finished for outcome in outcomes) and set(fake.calls) == set(calm.calls)


def test_a_replay_takes_the_cut_reply_where_no_longer_one_was_had():
    async def script(seed, ask):
        reply = await ask(user("q"))
        status, reason = status_of(reply)
        yield Example(user("q"), reply.text, status=status, reason=reason)

    fake = teacher(lambda messages: "cut", finish_reason="length")
    run(engine_of(fake), made(script, 1))
    [outcome] = run(engine_of(fake, teacher=None, longest=4096), made(script, 1))
    assert outcome.samples[0].status == "truncated"


def test_a_teacher_is_not_opened_where_nothing_is_asked():
    class NoKey(FakeTeacher):
        async def stream(self, requests, budget=None):
            raise AssertionError("a key would be needed here")
            yield

    fake = teacher()
    run(engine_of(fake), Chain())
    outcomes = run(engine_of(NoKey(echo, calls=fake.calls)), Chain())
    assert all(outcome.is_finished for outcome in outcomes)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"completion": "a\ud83d"}, "half a character"),
        ({"facts": {"p": math.nan}}, "a number that JSON"),
    ],
)
def test_what_no_database_holds_is_an_invalid_sample(given, reason):
    async def script(seed, ask):
        yield Example(**({"messages": user("q"), "completion": "x"} | given))

    [outcome] = run(engine_of(teacher()), made(script, 1))
    [sample] = outcome.samples
    assert sample.status == "invalid" and reason in sample.status_reason


# Rule 12: a batch API gets all that wait.


def test_k_steps_are_k_batches_and_a_request_without_a_reply_is_told():
    class Batches:
        identity, price = "conformance", None

        def __init__(self) -> None:
            self.sizes: list[int] = []

        async def answer(self, requests, budget=None):
            self.sizes.append(len(requests))
            for request in requests[::-1]:
                if "seed 7" not in request.messages[-1]["content"]:
                    yield Reply(request, echo(request.messages))

    batches, memory = Batches(), teacher()
    engine = engine_of(memory, teacher=batches, window=100)
    outcomes = run(engine, Chain(seeds_wanted=30, steps=4))
    assert batches.sizes == [30, 29, 29, 29]
    assert sum(outcome.is_finished for outcome in outcomes) == 29
    assert "gave no reply" in outcomes[7].unanswered


def test_a_batch_goes_out_also_where_no_further_seed_may_start():
    class Batches:
        identity, price = "conformance", None

        async def answer(self, requests, budget=None):
            for request in requests:
                yield Reply(request, echo(request.messages))

    engine = engine_of(teacher(), teacher=Batches(), window=100)
    outcomes = run(engine, Chain(seeds_wanted=30), may_start=lambda live: live < 3)
    assert [outcome.seed.value for outcome in outcomes] == list(range(30))


# Rule 13: messages of every call are kept.


def test_each_call_has_its_messages():
    fake = teacher()
    run(engine_of(fake), Chain(seeds_wanted=1))
    assert [c.messages for c in fake.calls.values()] == [r.messages for r in fake.asked]


# What no recipe may call ok.


@pytest.mark.parametrize(
    ("text", "finish_reason", "status"),
    [("fine", "stop", "ok"), ("cut", "aborted", "truncated"), ("a<|im_end|>", "stop", "invalid")],
)
def test_the_engine_marks_what_no_recipe_may_call_ok(text, finish_reason, status):
    async def script(seed, ask):
        reply = await ask(user("q"))
        yield Example(user("q"), reply.text)

    [outcome] = run(
        engine_of(teacher(lambda m: text, finish_reason=finish_reason)), made(script, 1)
    )
    assert outcome.samples[0].status == status


def test_a_cut_reply_is_asked_once_more_with_a_larger_limit():
    class Cutting(FakeTeacher):
        async def stream(self, requests, budget=None):
            while (request := await requests.next()) is not None:
                self.asked.append(request)
                short = request.sampling.max_tokens < 100
                yield Reply(request, "half" if short else "whole", "length" if short else "stop")

    fake = Cutting(echo)
    outcomes = run(engine_of(fake, sampling=Sampling(max_tokens=10), longest=100), Chain(steps=1))
    assert {o.samples[0].completion for o in outcomes} == {"whole"}
    assert len(fake.asked) == 20 and {o.call_runs[0][0] for o in outcomes} == {
        r.call_id for r in fake.asked
    }


# A window, and what may start.


def test_no_more_seeds_are_live_than_the_window_and_begun_ones_are_finished_first():
    live, most = 0, 0

    async def script(seed, ask):
        nonlocal live, most
        live += 1
        most = max(most, live)
        for step in range(3):
            await ask(user(f"{seed.value} {step}"))
        live -= 1
        yield Example(user(str(seed.value)), "x")

    class OneByOne(FakeTeacher):
        async def stream(self, requests, budget=None):
            while (request := await requests.next()) is not None:
                self.asked.append(request)
                await asyncio.sleep(0)
                yield Reply(request, "x")

    fake = OneByOne(echo)
    run(engine_of(fake, window=5), made(script, 40))
    assert most == 5
    asked = [request.messages[-1]["content"] for request in fake.asked]
    places = {text: place for place, text in enumerate(asked)}
    assert max(places[f"{n} 2"] - places[f"{n} 0"] for n in range(40)) <= 16


def test_a_stop_of_the_teacher_ends_the_run_and_keeps_what_came():
    class Ending(FakeTeacher):
        async def stream(self, requests, budget=None):
            for _ in range(5):
                request = await requests.next()
                yield Reply(request, echo(request.messages))
            raise PromptRejected("gone")

    fake = Ending(echo)
    with pytest.raises(PromptRejected, match="gone"):
        run(engine_of(fake), Chain(seeds_wanted=50))
    assert len(fake.calls) == 5
    later = teacher(calls=fake.calls)
    run(engine_of(later), Chain(seeds_wanted=50))
    assert len(later.asked) == 145


# ask.into


class Pair(BaseModel):
    question: str
    answer: str


def into(replies, **options):
    """The outcome of one `into`, and what was asked; replies in turn."""
    waiting = iter(replies)
    fake = teacher(lambda messages: next(waiting))

    async def script(seed, ask):
        try:
            pair = await ask.into(Pair, user("Write a pair as JSON."), **options)
        except Unparsed as fault:
            yield Example([], fault.raw, status=fault.status, reason=str(fault))
        else:
            yield Example(user(pair.question), pair.answer)

    [outcome] = run(engine_of(fake), made(script, 1))
    return outcome.samples[0], fake.asked


GOOD = '{"question": "Why?", "answer": "So."}'


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"Sure!\n```json\n{GOOD}\n```\nDone.",
        f"Here: {GOOD} Bye.",
        '{"question": "Why?", "answer": "a\nb"}',
    ],
)
def test_json_is_found_wherever_it_stands(reply):
    sample, asked = into([reply])
    assert sample.status == "ok" and len(asked) == 1
    form = asked[0].sampling.response_format
    assert form["json_schema"]["strict"] and form["json_schema"]["name"] == "Pair"
    assert form["json_schema"]["schema"]["required"] == ["question", "answer"]
    assert form["json_schema"]["schema"]["additionalProperties"] is False
    assert "title" not in form["json_schema"]["schema"]


def test_an_invalid_reply_is_answered_with_its_fault():
    sample, asked = into(["no idea", '{"question": 3}', GOOD])
    assert sample.status == "ok" and len(sample.call_ids) == 3
    second, third = (request.messages[-1]["content"] for request in asked[1:])
    assert "it holds no JSON" in second
    assert "question: Input should be a valid string; answer: Field required" in third
    assert [m["role"] for m in asked[2].messages] == ["user", "assistant", "user"]


def test_after_the_last_try_the_raw_text_stays():
    sample, asked = into(["{", "{", "{"], temperature=0.7)
    assert (sample.status, sample.completion, len(asked)) == ("invalid", "{", 3)
    assert sample.status_reason.startswith("no valid reply in 3 tries: the JSON is faulty at ")
    assert [request.sampling.seed for request in asked] == [None, None, 2]


def test_a_refusal_in_words_is_refused_and_not_invalid():
    sample, _ = into(["I cannot help with that."] * 3)
    assert (sample.status, sample.status_reason) == ("refused", "the teacher declined to answer")


def test_greedy_decoding_is_not_asked_the_same_again():
    sample, asked = into(["{", "{", "{"])
    assert len(asked) == 2 and sample.status_reason.startswith("no valid reply in 2 tries: ")


def test_a_check_of_the_recipe_s_own_is_a_fault_too():
    wants = {"check": lambda pair: None if pair.answer == "So." else "the answer must be So."}
    sample, asked = into(['{"question": "q", "answer": "Otherwise."}', GOOD], **wants)
    assert sample.status == "ok" and "the answer must be So." in asked[1].messages[-1]["content"]


def test_a_server_that_takes_no_schema_is_asked_in_words():
    class NoSchema(FakeTeacher):
        async def stream(self, requests, budget=None):
            while (request := await requests.next()) is not None:
                self.asked.append(request)
                if request.sampling.response_format is not None:
                    yield Reply(
                        request, error=PromptRejected("HTTP 400: response_format is unknown")
                    )
                else:
                    yield Reply(request, GOOD)

        def keep(self, record, reply):
            if reply.error is None:
                super().keep(record, reply)

    async def script(seed, ask):
        pair = await ask.into(Pair, user("JSON!"))
        yield Example(user(pair.question), pair.answer)

    [outcome] = run(engine_of(NoSchema(echo)), made(script, 1))
    assert outcome.samples[0].status == "ok"


def test_a_json_schema_of_the_user_is_validated():
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1}},
        "required": ["n"],
    }
    replies = iter(['{"n": 0}', '{"n": 4}'])
    fake = teacher(lambda messages: next(replies))

    async def script(seed, ask):
        value = await ask.into_json(schema, user("a number"))
        yield Example(user("q"), str(value["n"]))

    [outcome] = run(engine_of(fake), made(script, 1))
    assert outcome.samples[0].completion == "4"
    assert "n: 0 is less than the minimum of 1" in fake.asked[1].messages[-1]["content"]


def test_a_status_that_does_not_exist_is_a_fault_of_the_recipe():
    async def script(seed, ask):
        yield Example(user("q"), "x", status="invalid")

    [outcome] = run(engine_of(teacher()), made(script, 1))
    assert "each but ok has a reason" in outcome.fault


def test_prepare_is_asked_once_and_shared():
    @dataclass(frozen=True)
    class Prepared(Chain):
        async def prepare(self, folder, ask):
            reply = await ask(user("which topics?"))
            return {"topics": reply.text}

        async def make(self, seed, ask):
            reply = await ask(user(f"{ask.prepared['topics']} {seed.value}"))
            yield Example(user(str(seed.value)), reply.text)

    fake = teacher()
    outcomes = run_recipe(Prepared(), HERE, fake)
    assert len(fake.asked) == 11
    assert outcomes[0].samples[0].completion == "re(re(which topics?) 0)"


def test_facts_question_and_reference_are_kept_with_the_sample():
    async def script(seed, ask):
        await ask(user("q"))
        shown = [{"role": "system", "content": "Be kind."}, *user("How are you?")]
        yield Example(shown, "Fine.", reference=["Well."], passage="p", facts={"persona": "nurse"})

    [outcome] = run(engine_of(teacher()), made(script, 1))
    [sample] = outcome.samples
    assert (sample.question, sample.reference, sample.passage) == ("How are you?", ["Well."], "p")
    assert sample.facts == {"persona": "nurse"}
    assert replace(sample, facts=None).sample_id == sample.sample_id
