"""Shipped wordings, and the user's own in their place."""

import pytest

from datagen import wording
from datagen.wording import Wording
from warehouse.errors import DataError


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "quiz.en.j2").write_text(
        "{% block system %}Be brief.{% endblock %}\n"
        "{% block ask %}\nWrite {{ number }} questions:\n{{ text }}\n{% endblock %}"
    )
    monkeypatch.setattr(wording, "FOLDER", folder)
    wording._load.cache_clear()
    return folder


def test_a_block_is_a_text_and_a_conversation(shipped):
    words = Wording("quiz")
    assert words.text("ask", number=2, text="<a> & {{ b }}") == "Write 2 questions:\n<a> & {{ b }}"
    assert words.messages("ask", "system", number=1, text="x") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write 1 questions:\nx"},
    ]


def test_a_user_s_template_extends_a_shipped_one(shipped, tmp_path):
    (tmp_path / "my.j2").write_text(
        '{% extends "quiz.en.j2" %}{% block ask %}Frag {{ number }}. {{ super() }}{% endblock %}'
    )
    words = Wording("quiz", template="my.j2", folder=tmp_path)
    assert words.text("ask", number=3, text="t") == "Frag 3. Write 3 questions:\nt"
    assert words.text("system") == "Be brief."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{% block ask %}{{ nothing }}{% endblock %}", "'nothing' is undefined; it may use number"),
        ("{% block ask %}{{ number", "my.j2, line 1"),
        ("{% block system %}x{% endblock %}", "has no block 'ask'"),
        ("{% block ask %}{{ ''.__class__.__mro__ }}{% endblock %}", "unsafe"),
        ('{% extends "gone.j2" %}', "extends gone.j2, which is not found in"),
        ('{% extends "quizz.en.j2" %}', "did you mean 'quiz.en.j2'"),
    ],
)
def test_a_faulty_template_is_one_line(shipped, tmp_path, content, said):
    (tmp_path / "my.j2").write_text(content)
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        Wording("quiz", template="my.j2", folder=tmp_path).text("ask", number=1)


@pytest.mark.parametrize(
    "content",
    [
        '{% extends "quiz.en.j2" %}{% block aks %}x{% endblock %}',
        "{% block ask %}x{% endblock %}{% block system %}y{% endblock %}{% block aks %}z{% endblock %}",
        '{% extends "quiz.en.j2" %}{% block asked %}x{% endblock %}{% block ask %}{% block aks %}'
        "{% endblock %}{% endblock %}",
    ],
)
def test_a_block_that_the_recipe_never_renders_is_told_with_those_it_does(
    shipped, tmp_path, content
):
    (tmp_path / "my.j2").write_text(content)
    said = r"template my.j2, line 1: recipe 'quiz' has no block '(aks|asked)'; rename it to one of ask, system"
    with pytest.raises(DataError, match=said):
        Wording("quiz", template="my.j2", folder=tmp_path)


def test_blocks_of_the_user_s_own_are_those_that_the_template_itself_renders(shipped, tmp_path):
    (tmp_path / "mine.j2").write_text(
        '{% extends "quiz.en.j2" %}{% block ask %}{% block tone %}Sie{% endblock %} {{ self.end() }}'
        "{% endblock %}{% block system %}{% block end %}.{% endblock %}{% endblock %}"
    )
    (tmp_path / "my.j2").write_text('{% extends "mine.j2" %}{% block tone %}du{% endblock %}')
    assert Wording("quiz", template="my.j2", folder=tmp_path).text("ask") == "du ."


def test_recipes_may_share_a_template_that_extends_none(shipped, tmp_path):
    (shipped / "riddle.en.j2").write_text("{% block riddle %}?{% endblock %}")
    blocks = "{% block ask %}a{% endblock %}{% block system %}s{% endblock %}{% block riddle %}r{% endblock %}"
    (tmp_path / "my.j2").write_text(blocks)
    assert Wording("riddle", template="my.j2", folder=tmp_path).text("riddle") == "r"
    (tmp_path / "ex.j2").write_text('{% extends "quiz.en.j2" %}{% block riddle %}r{% endblock %}')
    with pytest.raises(DataError, match="no block 'riddle'; rename it to one of ask, system"):
        Wording("quiz", template="ex.j2", folder=tmp_path)


def test_a_recipe_of_the_user_s_has_blocks_that_its_code_alone_knows(shipped, tmp_path):
    (tmp_path / "my.j2").write_text("{% block anything %}a{% endblock %}")
    assert Wording("own", template="my.j2", folder=tmp_path).text("anything") == "a"


def test_missing_blocks_are_those_that_are_neither_written_nor_inherited(shipped, tmp_path):
    (tmp_path / "my.j2").write_text("{% block ask %}a{% endblock %}")
    assert Wording("quiz", template="my.j2", folder=tmp_path).missing == ["system"]
    (tmp_path / "ex.j2").write_text('{% extends "quiz.en.j2" %}')
    assert Wording("quiz", template="ex.j2", folder=tmp_path).missing == []


def test_a_language_without_words_names_those_that_are_there(shipped):
    with pytest.raises(DataError, match=r"no words in 'xx' \(en are there\); give your own"):
        Wording("quiz", "xx")
