import pytest

from tests.support.tiny import make_servable
from train.model.chat import Chat
from train.model.inference import Generator
from warehouse.errors import ModelError


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Generator(str(make_servable(tmp_path_factory.mktemp("base") / "model")))


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
