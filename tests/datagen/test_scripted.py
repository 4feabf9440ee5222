from datagen.teachers.scripted import Scripted
from tests.support.asking import ask


def test_the_first_text_found_answers_else_the_default():
    teacher = Scripted({"the sun": "a star", "sun": "star"}, default="no idea")
    replies = ask(teacher, "Why is the sun hot?", "sun", "moon")
    assert [reply.text for reply in replies] == ["a star", "star", "no idea"]
    assert all(reply.cost_usd == 0.0 and reply.error is None for reply in replies)
    assert [reply.usage.prompt_tokens for reply in replies] == [5, 1, 1]
    assert [reply.usage.completion_tokens for reply in replies] == [2, 1, 2]


def test_the_log_has_a_call_id_per_request(tmp_path):
    log = tmp_path / "asked.log"
    replies = ask(Scripted(default="yes", log=str(log)), "a", "b")
    assert log.read_text().split() == [reply.request.call_id for reply in replies]


def test_identity_is_the_script():
    assert Scripted({"a": "b"}).identity == Scripted({"a": "b"}, latency_s=1.0, log="x").identity
    assert Scripted({"a": "b"}).identity != Scripted({"a": "c"}).identity
    assert Scripted(default="x").identity != Scripted().identity


def test_check_says_that_it_is_a_fake():
    [line] = Scripted({"a": "b"}).check()
    assert "fake" in line and "1 rule" in line
