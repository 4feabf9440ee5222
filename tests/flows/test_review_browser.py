"""The review in a real browser, by its keys; the decisions are read from the warehouse."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager

import pytest

from distill.plan.plan import load_plan
from flows.review.server import app_of, listen, server_of
from flows.review.session import Session
from quality.review.decisions import decisions
from tests.support.reviewing import NASTY, store, write_world
from warehouse.records import Sample, Score

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
TOKEN = "a-token-of-the-test"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def served(session):
    """The address of a session on a real server."""
    with listen() as listening:
        port = listening.getsockname()[1]
        server = server_of(app_of(session, TOKEN, port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join(timeout=60)
            assert not thread.is_alive()


@contextmanager
def opened(chromium, url, **options):
    """A page at an address; it must have had nothing to complain of when it is closed."""
    context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    page = context.new_page()
    told = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("requestfailed", lambda request: told.append(f"failed: {request.url}"))
    page.goto(url)
    at(page, 1)
    yield page
    sync_api.expect(page.locator("#count")).not_to_contain_text("being saved")
    context.close()
    assert told == []


def at(page, number):
    sync_api.expect(page.locator("#position")).to_contain_text(f"{number} of ")


def said(page, text):
    sync_api.expect(page.locator("#said")).to_contain_text(text)


def session_of(folder, **world):
    path, _ = write_world(folder, **world)
    return Session(load_plan(path), store(folder), only="all")


def test_keys_decide_and_the_warehouse_has_it(chromium, tmp_path):
    session = session_of(tmp_path)
    a, b, c, d = (sample.sample_id for sample in session.samples)
    with served(session) as url, opened(chromium, url) as page:
        page.keyboard.press("a")
        at(page, 2)
        said(page, "Accepted. Now 2 of 4")
        page.keyboard.press("r")
        at(page, 3)
        said(page, "Rejected")
        page.keyboard.press("e")
        page.locator("#text").fill("")
        page.keyboard.type("as brown as rust")
        page.keyboard.press("Control+Enter")
        at(page, 4)
        said(page, "Edited")
        page.keyboard.press("c")
        page.keyboard.type("a and r are letters here")
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        said(page, "All 4 are decided")
        page.keyboard.press("u")
        said(page, "Undone")
        at(page, 4)
        page.keyboard.press("u")
        at(page, 3)
        sync_api.expect(page.locator("#verdict")).to_be_hidden()
        sync_api.expect(page.locator("#count")).to_have_text("2 of 4 decided")
        page.locator("#agreement summary").click()
        assert "grounded_min" in page.locator("#agreement").inner_text()
        page.screenshot(path=tmp_path / "review.png", full_page=True)
    assert (tmp_path / "review.png").stat().st_size > 20_000
    rows = store(tmp_path).read(Score, "scorer = 'human'")
    found = decisions(rows)
    assert {key: found[key].value for key in found if key in (a, b, c, d)} == {a: 1.0, b: 0.0}
    assert [row.value for row in rows].count(None) == 2
    left = next(row for row in rows if row.sample_id == c and row.value == 0.0)
    (edited,) = store(tmp_path).by_ids(Sample, "sample_id", [left.details["edited_to"]])
    assert edited.completion == "as brown as rust"
    assert next(r.why for r in rows if r.sample_id == d and r.value) == "a and r are letters here"


def test_a_script_in_a_completion_is_text(chromium, tmp_path):
    session = session_of(tmp_path, values=(0.5,), completions=(NASTY,))
    with served(session) as url, opened(chromium, url) as page:
        assert page.locator("#completion").evaluate("node => node.textContent") == NASTY
        assert page.locator("#completion *").count() == 0
        assert page.locator("img").count() == 0
        assert page.title() == "animals: review"
        assert "RIGHT-TO-LEFT OVERRIDE" in page.locator("#hidden").inner_text()
        page.keyboard.press("e")
        page.keyboard.press("End")
        page.keyboard.press("Escape")
        sync_api.expect(page.locator("#editor")).to_be_hidden()
        assert page.title() == "animals: review"


def test_the_policy_would_stop_markup_that_got_in(chromium, tmp_path):
    with served(session_of(tmp_path)) as url:
        page = chromium.new_page()
        page.goto(url)
        at(page, 1)
        with pytest.raises(sync_api.Error, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<img src=x onerror=\"document.title=1\">'")
        page.evaluate(
            "const s = document.createElement('style'); s.textContent = 'body { color: red }';"
            "document.head.append(s)"
        )
        assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
        with pytest.raises(sync_api.Error, match="Failed to fetch"):
            page.evaluate("fetch('http://127.0.0.1:9/')")
        page.context.close()


def test_buttons_do_the_same_and_can_be_reached(chromium, tmp_path):
    session = session_of(tmp_path)
    with served(session) as url, opened(chromium, url) as page:
        page.get_by_role("button", name="Next").click()
        at(page, 2)
        page.get_by_role("button", name="Previous").click()
        at(page, 1)
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("Completion, edited").fill("  ")
        page.get_by_role("button", name="Save").click()
        said(page, "needs a completion")
        page.get_by_role("button", name="Cancel").click()
        sync_api.expect(page.get_by_role("button", name="Edit")).to_be_focused()
        page.get_by_role("button", name="Accept").focus()
        page.keyboard.press("Enter")
        at(page, 2)
        page.get_by_role("button", name="Reject").click()
        at(page, 3)
        page.get_by_role("button", name="Undo").click()
        at(page, 2)
        page.get_by_role("button", name="Undo").click()
        at(page, 1)
        page.get_by_role("button", name="Undo").click()
        said(page, "nothing to undo")
    assert session.made == 0


def test_the_help_holds_the_keys_back_and_can_turn_them_off(chromium, tmp_path):
    session = session_of(tmp_path)
    with served(session) as url, opened(chromium, url) as page:
        page.keyboard.press("?")
        sync_api.expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("r")
        page.get_by_label("Single keys act").uncheck()
        page.keyboard.press("Escape")
        sync_api.expect(page.get_by_role("dialog")).to_be_hidden()
        page.keyboard.press("r")
        page.keyboard.press("Control+a")
        page.get_by_role("button", name="Next").click()
        at(page, 2)
    assert session.human == []


def test_a_comment_on_a_decided_sample_is_kept_with_it(chromium, tmp_path):
    session = session_of(tmp_path)
    first = session.samples[0].sample_id
    with served(session) as url, opened(chromium, url) as page:
        page.keyboard.press("r")
        at(page, 2)
        page.keyboard.press("k")
        at(page, 1)
        page.keyboard.press("c")
        page.keyboard.type("wrong animal")
        page.keyboard.press("Control+Enter")
        at(page, 2)
    found = decisions(store(tmp_path).read(Score, "scorer = 'human'"))[first]
    assert (found.value, found.why) == (0.0, "wrong animal")


def test_a_server_that_ended_is_told(chromium, tmp_path):
    with served(session_of(tmp_path)) as url:
        page = chromium.new_page()
        page.goto(url)
        at(page, 1)
    page.keyboard.press("a")
    said(page, "1 of 4 is not saved. Nobody answers")
    sync_api.expect(page.locator("#count")).to_have_text("0 of 4 decided, 1 not saved")
    page.context.close()


def test_keys_act_on_the_sample_on_screen_while_decisions_are_saved(chromium, tmp_path):
    session = session_of(tmp_path)
    a, b, c, d = (sample.sample_id for sample in session.samples)
    decide, may_save = session.decide, threading.Event()

    def slowly(wanted):
        assert may_save.wait(timeout=30)
        return decide(wanted)

    session.decide = slowly
    with served(session) as url, opened(chromium, url) as page:
        count = page.locator("#count")
        page.keyboard.press("a")
        at(page, 2)
        page.keyboard.press("r")
        at(page, 3)
        page.keyboard.press("e")
        page.locator("#text").fill("as brown as rust")
        page.keyboard.press("Control+Enter")
        at(page, 4)
        page.keyboard.press("a")
        page.keyboard.press("u")
        sync_api.expect(count).to_have_text("3 of 4 decided, 5 being saved")
        for _ in range(3):
            page.keyboard.press("p")
        at(page, 1)
        sync_api.expect(page.locator("#verdict")).to_have_text("accepted")
        assert store(tmp_path).read(Score, "scorer = 'human'") == []
        may_save.set()
        sync_api.expect(count).to_have_text("3 of 4 decided")
        at(page, 1)
    found = decisions(store(tmp_path).read(Score, "scorer = 'human'"))
    assert {key: found[key].value for key in (a, b)} == {a: 1.0, b: 0.0}
    assert found[c].details["edited_to"] in found
    assert d not in found


def test_a_decision_that_fails_is_said_and_the_others_are_saved(chromium, tmp_path):
    session = session_of(tmp_path)
    a, b, *_ = (sample.sample_id for sample in session.samples)
    decide = session.decide

    def failing(wanted):
        if wanted.sample_id == a:
            raise ValueError("the disk is full")
        return decide(wanted)

    session.decide = failing
    with served(session) as url:
        page = chromium.new_page()
        page.goto(url)
        at(page, 1)
        page.keyboard.press("c")
        page.keyboard.type("a good one")
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        said(page, "1 of 4 is not saved. the disk is full")
        page.keyboard.press("r")
        at(page, 3)
        sync_api.expect(page.locator("#count")).to_have_text("1 of 4 decided, 1 not saved")
        page.keyboard.press("p")
        page.keyboard.press("p")
        at(page, 1)
        sync_api.expect(page.locator("#verdict")).to_be_hidden()
        sync_api.expect(page.locator("#comment")).to_have_value("a good one")
        session.decide = decide
        page.keyboard.press("a")
        sync_api.expect(page.locator("#count")).to_have_text("2 of 4 decided")
        page.context.close()
    found = decisions(store(tmp_path).read(Score, "scorer = 'human'"))
    assert {key: score.value for key, score in found.items()} == {a: 1.0, b: 0.0}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen(chromium, tmp_path, scheme):
    session = session_of(tmp_path, values=(0.5, 0.2), completions=("word" * 200, "x"))
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    with served(session) as url, opened(chromium, url, **options) as page:
        for _ in range(2):
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            page.keyboard.press("n")
        assert page.locator("header").bounding_box()["height"] < 160
        page.screenshot(path=tmp_path / "narrow.png")
        for name in ("Accept", "Reject", "Edit", "Undo"):
            assert page.get_by_role("button", name=name).bounding_box()["height"] >= 36
