from types import SimpleNamespace

import pytest

from tests.support.tiny import HERMES, make_byte_tokenizer, make_servable
from train.model.chat import Chat
from train.model.inference import Generator
from warehouse.errors import ModelError


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Generator(str(make_servable(tmp_path_factory.mktemp("base") / "model")))


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


class Scripted(Chat):
    """A chat with a real tokenizer and template, whose model says given texts, a letter at a time."""

    def __init__(self, *texts, tools=(TOOL,)):
        generator = SimpleNamespace(tokenizer=make_byte_tokenizer(HERMES), context=None)
        super().__init__(generator, 99, tools=tools)
        self.texts, self.asked = list(texts), []

    def _generate(self, ids, hear):
        self.asked.append(self.generator.tokenizer.decode(ids))
        for letter in self.texts.pop(0):
            hear(letter)


def said(chat, text, is_result=False):
    """What a person sees of the answer."""
    pieces = []
    (chat.give_result if is_result else chat.say)(text, pieces.append)
    return "".join(pieces)


def user(text):
    return {"role": "user", "content": text}


def test_the_pieces_are_what_the_reader_answers_with_all_that_was_said_before(reader):
    chat = Chat(reader, 24, system="Be brief.")
    told = [{"role": "system", "content": "Be brief."}]
    for question in ("Water?", "And then?"):
        told.append(user(question))
        (wanted,) = reader.answer([told], 24)
        pieces = []
        said = chat.say(question, pieces.append)
        assert said == "".join(pieces) == wanted.text
        told.append({"role": "assistant", "content": said})
    assert chat.turns == told[1:]


def test_after_a_reset_nothing_is_remembered_and_the_system_message_stays(reader):
    chat = Chat(reader, 8, system="Be brief.")
    first = chat.say("Water?", lambda piece: None)
    chat.reset()
    assert chat.say("Water?", lambda piece: None) == first
    chat.reset("Be long.")
    assert (chat.system, chat.turns) == ("Be long.", [])


def test_an_answer_that_is_cut_off_stays_as_far_as_it_came(reader):
    chat = Chat(reader, 64)

    def interrupt(piece):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.say("Water?", interrupt)
    (question, answer) = chat.turns
    assert question == user("Water?")
    assert answer["content"]
    assert chat.say("And?", lambda piece: None)


def test_what_does_not_fit_is_told_and_forgotten(reader):
    chat = Chat(reader, 8)
    with pytest.raises(ModelError, match=r"exceeds the model's context of 2048; .* /reset"):
        chat.say("long " * 500, lambda piece: None)
    assert chat.turns == []


def test_a_call_is_shown_readable_and_its_result_answered():
    chat = Scripted(f"Let me see.{CALL}", "It rains.")
    assert said(chat, "Oslo?") == 'Let me see.\nweather(city="Oslo")'
    assert '"name": "weather"' in chat.asked[0]  # the template was given the tools
    assert chat.turns[1]["content"] == "Let me see."
    assert [call["function"]["arguments"] for call in chat.open_calls] == [{"city": "Oslo"}]
    assert said(chat, "rain", is_result=True) == "It rains."
    assert f"Let me see.{CALL}" in chat.asked[1]  # written as the student was trained on it
    assert "<tool_response>\nrain\n</tool_response>" in chat.asked[1]
    assert [turn["role"] for turn in chat.turns] == ["user", "assistant", "tool", "assistant"]
    assert chat.open_calls == []


def test_several_calls_wait_for_all_results_and_later_ones_have_other_ids():
    chat = Scripted(CALL + CALL.replace("Oslo", "Rome"), CALL, "Done.")
    assert said(chat, "Both?") == 'weather(city="Oslo")\nweather(city="Rome")'
    assert said(chat, "rain", is_result=True) == "" and len(chat.asked) == 1
    assert said(chat, "sun", is_result=True) == 'weather(city="Oslo")'
    assert [call["id"] for call in chat.open_calls] == ["call00003"]
    assert said(chat, "snow", is_result=True) == "Done."
    with pytest.raises(ModelError, match="no call waits for a result"):
        chat.give_result("again", print)


@pytest.mark.parametrize("text", ["2 < 3, {so} it is [1].", "An answer.", '{"name": "x"}', "{"])
def test_an_answer_that_is_no_call_is_told_whole(text):
    chat = Scripted(text)
    assert said(chat, "?") == text
    assert chat.turns[-1] == {"role": "assistant", "content": text}


def test_without_tools_nothing_is_held_back():
    chat = Scripted(CALL, tools=())
    assert said(chat, "?") == CALL
    assert chat.turns[-1]["content"] == CALL and '"weather"' not in chat.asked[0]
