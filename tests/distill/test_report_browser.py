"""The report in a real browser: it loads, runs its own script alone, and complains of nothing."""

import itertools
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from distill.report.report import render_html
from tests.support.reports import example_report, rich_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--log-level=0", "--window-size=1100,4000",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def browse(folder, *flags):
    page = folder / "report.html"
    profile = folder / f"profile-{len(list(folder.iterdir()))}"
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def console(stderr):
    return [line for line in stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    path = tmp_path_factory.mktemp("rich") / "report.html"
    path.write_text(render_html(rich_report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS[1:])
        yield browser
        browser.close()


@contextmanager
def opened(chromium, path, **options):
    """A page; it must have had nothing to complain of and asked for nothing when it is closed."""
    context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    page = context.new_page()
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert told == []
    assert asked == [path.as_uri()]


def shown(page):
    return page.locator(".items > li:visible")


def status(page, text):
    sync_api.expect(page.get_by_role("status")).to_have_text(text)


def test_page_is_shown_without_a_console_message(tmp_path):
    (tmp_path / "report.html").write_text(render_html(example_report()), encoding="utf-8")
    done = browse(tmp_path, "--dump-dom")
    assert "Verdict" in done.stdout
    assert done.stdout.count("<svg") == 6
    assert done.stdout.count("<script") == 1
    assert "<img" not in done.stdout
    assert "40 of 40 items, the first 25 shown" in done.stdout
    assert console(done.stderr) == []


@pytest.mark.parametrize(
    "planted",
    [
        "<script>document.title = 'taken'; </script>",
        "<img src=x onerror=\"document.title = 'taken'\">",
    ],
)
def test_a_forced_script_is_refused_by_the_policy(tmp_path, planted):
    html = render_html(example_report()).replace("</main>", f"{planted}</main>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    done = browse(tmp_path, "--dump-dom")
    assert "<title>taken" not in done.stdout
    assert any("Content Security Policy" in line for line in console(done.stderr))


def test_screenshot_is_not_blank(tmp_path):
    (tmp_path / "report.html").write_text(render_html(example_report()), encoding="utf-8")
    picture = tmp_path / "report.png"
    browse(tmp_path, f"--screenshot={picture}")
    assert picture.stat().st_size > 50_000


def test_items_are_found_by_words_and_choices(chromium, rich):
    with opened(chromium, rich) as page:
        status(page, "180 of 180 items, the first 25 shown")
        assert shown(page).count() == 25
        search = page.get_by_label("Search")
        search.fill("PÀSSAGE  33.")
        status(page, "3 of 180 items shown")
        page.get_by_label("Benchmark").select_option("sciq")
        status(page, "1 of 180 items shown")
        page.get_by_label("Outcome").select_option("lost")  # the base has no item of sciq right
        status(page, "0 of 180 items shown")
        sync_api.expect(page.get_by_text("No item fits.")).to_be_visible()
        page.get_by_role("button", name="Clear").click()
        sync_api.expect(search).to_be_focused()
        page.get_by_label("Category").select_option("physics")
        status(page, "15 of 180 items shown")
        page.get_by_label("Outcome").select_option("won")
        tags = shown(page).locator(".tag").all_inner_texts()
        assert tags
        assert set(tags) == {"Student right, base wrong"}
        search.fill("<script>")
        status(page, "1 of 180 items shown")
        page.get_by_label("Category").select_option("")
        page.get_by_label("Outcome").select_option("")
        status(page, "3 of 180 items shown")
        assert page.title() == "quiz-small: distillation report"


def test_the_keyboard_goes_through_the_items(chromium, rich):
    with opened(chromium, rich) as page:
        page.get_by_label("Search").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        second = shown(page).nth(1)
        sync_api.expect(second.locator("summary")).to_be_focused()
        sync_api.expect(second.locator("dl")).to_be_visible()
        sync_api.expect(shown(page).nth(0).locator("dl")).to_be_hidden()
        page.keyboard.press("End")
        sync_api.expect(shown(page).nth(24).locator("summary")).to_be_focused()
        page.get_by_role("button", name="Show 25 more").press("Enter")
        sync_api.expect(shown(page).nth(25).locator("summary")).to_be_focused()
        status(page, "180 of 180 items, the first 50 shown")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        sync_api.expect(page.get_by_label("Search")).to_be_focused()
        page.keyboard.type("nothing like it")
        status(page, "0 of 180 items shown")
        page.keyboard.press("Escape")
        status(page, "180 of 180 items, the first 25 shown")


def test_the_first_key_skips_to_the_verdict(chromium, rich):
    with opened(chromium, rich) as page:
        page.keyboard.press("Tab")
        sync_api.expect(page.get_by_text("Skip to the verdict")).to_be_in_viewport()
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#verdict")).to_be_focused()


def test_everything_can_be_read_without_a_script(chromium, rich):
    with opened(chromium, rich, java_script_enabled=False) as page:
        assert shown(page).count() == 180
        sync_api.expect(page.get_by_role("search")).to_be_hidden()
        shown(page).nth(100).locator("summary").click()
        sync_api.expect(shown(page).nth(100).locator("dl")).to_be_visible()


def test_paper_has_every_section_open_and_no_controls(chromium, rich):
    with opened(chromium, rich) as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not(.item, [open])").count() == 0
        assert page.locator(".item[open]").count() == 0
        sync_api.expect(page.get_by_role("search")).to_be_hidden()
        sync_api.expect(page.get_by_role("navigation")).to_be_hidden()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not(.item, [open])").count() > 0


def test_no_label_of_a_chart_lies_over_another(chromium, rich):
    with opened(chromium, rich) as page:
        charts = page.evaluate(
            "[...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll('text')]"
            ".map(text => { const b = text.getBoundingClientRect();"
            " return [text.textContent, b.left, b.top, b.right, b.bottom]; }))"
        )
    assert len(charts) >= 10
    for labels in charts:
        for (one, *a), (other, *b) in itertools.combinations(labels, 2):
            apart = a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 3 or b[3] <= a[1] + 3
            assert apart, (one, other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen(chromium, rich, tmp_path, scheme):
    options = {"viewport": {"width": 400, "height": 800}, "color_scheme": scheme}
    with opened(chromium, rich, **options) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.get_by_role("button", name="Open all shown").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert dark == (scheme == "dark")
        page.screenshot(path=tmp_path / "narrow.png")
