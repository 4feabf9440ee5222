"""The report in a real browser: it loads, runs nothing, and complains of nothing."""

import shutil
import subprocess

import pytest

from distill.report import render_html
from tests.test_distill_report import example_report

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


def test_page_is_shown_without_a_console_message(tmp_path):
    (tmp_path / "report.html").write_text(render_html(example_report()), encoding="utf-8")
    done = browse(tmp_path, "--dump-dom")
    assert "Verdict" in done.stdout
    assert done.stdout.count("<svg") == 6
    assert "<script" not in done.stdout
    assert "<img" not in done.stdout
    assert console(done.stderr) == []


def test_a_forced_script_is_refused_by_the_policy(tmp_path):
    html = render_html(example_report()).replace(
        "</main>", "<script>document.title = 'taken'; </script></main>"
    )
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    done = browse(tmp_path, "--dump-dom")
    assert "<title>taken" not in done.stdout
    assert any("Content Security Policy" in line for line in console(done.stderr))


def test_screenshot_is_not_blank(tmp_path):
    (tmp_path / "report.html").write_text(render_html(example_report()), encoding="utf-8")
    picture = tmp_path / "report.png"
    browse(tmp_path, f"--screenshot={picture}")
    assert picture.stat().st_size > 50_000
