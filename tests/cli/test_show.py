"""``show``: a conversation in the terminal, as JSON and as a page."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

from cli.conftest import STORES, MakeStore, Result, command
from cli.conversations import BEGIN, CONVERSATIONS, Texts, append, session, text
from rasa_trackers.cli.timeline import Timeline

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.parametrize("name", STORES)
def test_shows_who_said_what(
    make: MakeStore, run: Callable[..., Result], name: str
) -> None:
    store = make(name).fill({"ada": CONVERSATIONS["ada"]})
    result = run("show", "ada", "-e", store.path)
    assert result.status == 0
    shown = [line.rstrip() for line in result.out.splitlines()]
    assert shown[0].startswith("ada: 24 events")
    assert [line for line in shown if line.startswith("──")] == [
        "── Session 1 · 2023-11-14 22:13:20 ──",
        "── Session 2 · 2023-11-15 22:13:20 ──",
    ]
    assert "22:13:21     user  hello  (greet 0.98, name=Ada, by rest)" in shown
    assert "22:13:21      bot  hi" in shown
    assert "22:13:21   action  utter_greet  (RulePolicy 1.00)" in shown
    assert "22:13:22     slot  count = 1  (was 0)" in shown
    # A slot that stays as it was is no news.
    assert sum("name = Ada" in line for line in shown) == 1


def test_shows_the_last_events_with_what_slots_were(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    store = make("sqlite").fill()
    result = run("show", "ada", "-e", store.path, "--last", "5")
    assert result.out.splitlines()[0] == "ada: 24 events, the last 5, user user-1"
    assert "count = 1  (was 0)" in result.out
    assert "hello" not in result.out


def test_shows_forms_restarts_and_unknown_events() -> None:
    lines = Timeline().lines(
        [
            text("active_loop", BEGIN, name="pizza_form"),
            text("active_loop", BEGIN, name=None),
            text("restart", BEGIN),
            text("flow_started", BEGIN, flow_id="transfer", metadata={}),
            text("reset_slots", BEGIN),
            "{damaged",
            "5",
        ]
    )
    assert [(line.kind, line.text) for line in lines] == [
        ("form", "form began: pizza_form"),
        ("form", "form ended: pizza_form"),
        ("other", "restart"),
        ("other", "flow_started"),
        ("slot", "all slots reset"),
        ("damaged", "{damaged"),
        ("damaged", "5"),
    ]
    assert lines[3].details == '{"flow_id": "transfer"}'


def test_a_message_cannot_drive_the_terminal(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    said = "a\x1b]0;title\x07b\r\x9bc\u202ed\n[red]e[/red]"
    store = make("sqlite").fill({"\x1b[2J": Texts(session(BEGIN, (said,)))})
    for result in (
        run("show", "\x1b[2J", "-e", store.path),
        run("list", "-e", store.path),
    ):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", result.out)
    assert "[red]e[/red]" in run("show", "\x1b[2J", "-e", store.path).out


def test_json_has_the_events_as_they_are(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    store = make("sqlite").fill({"ada": Texts([*session(BEGIN), "{damaged"], "u")})
    found = run("show", "ada", "-e", store.path, "--json").json()
    assert found["sender_id"] == "ada"
    assert found["user_id"] == "u"
    assert len(found["events"]) == 10
    assert found["events"][-1] == "{damaged"


def test_an_unknown_conversation_is_an_error(
    make: MakeStore, run: Callable[..., Result]
) -> None:
    result = run("show", "nobody", "-e", make("sqlite").fill().path)
    assert result.status == 1
    assert "'nobody'" in result.err


def test_follows_a_conversation_until_ctrl_c(make: MakeStore) -> None:
    store = make("sqlite").fill({"ada": CONVERSATIONS["ada"]})
    process = subprocess.Popen(
        command("show", "ada", "-e", store.path, "--follow", "--last", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "Ctrl-C" in process.stderr.readline()
    lines: List[str] = []
    with store.log() as log:
        end = log.read_back("ada").events[-1].position
        for said in ("news", "more"):
            end = append(log, "ada", Texts([text("user", BEGIN, text=said)]), end)
            while not (lines and said in lines[-1]):
                lines.append(process.stdout.readline())
                assert lines[-1], process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert sum("news" in line for line in [*lines, *out.splitlines()]) == 1
    assert "Traceback" not in err


def test_a_page_needs_no_network(
    make: MakeStore, run: Callable[..., Result], tmp_path: Path
) -> None:
    hostile = "<script>document.title='hacked'</script><img src=http://x.test/>\"'&"
    store = make("sqlite").fill({hostile: Texts(session(BEGIN, (hostile,)), hostile)})
    page = tmp_path / "page.html"
    assert run("show", hostile, "-e", store.path, "--html", str(page)).status == 0
    content = page.read_text()
    assert "default-src 'none'" in content
    tags = re.findall(r"<\w[^>]*>", content)
    assert not [tag for tag in tags if re.search(r"<(script|img|link)|src=|href=", tag)]


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., str]:
    """Runs Chromium without a window; gives what it prints."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")

    def browser(*arguments: str) -> str:
        done = subprocess.run(
            [
                str(path),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path / 'chromium'}",
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    return browser


def test_a_page_opens_in_a_browser(
    make: MakeStore,
    run: Callable[..., Result],
    tmp_path: Path,
    browser: Callable[..., str],
) -> None:
    hostile = "</title><script>document.title='hacked'</script> & ünïcode 🙂"
    texts = [*session(BEGIN, (hostile,)), *session(BEGIN + 60, ("second",)), "{damaged"]
    store = make("sqlite").fill({"ada <b>": Texts(texts, "user-1")})
    page = tmp_path / "page.html"
    run("show", "ada <b>", "-e", store.path, "--html", str(page))
    dom = browser("--dump-dom", page.as_uri())
    assert "<title>ada &lt;b&gt;</title>" in dom
    assert dom.count('class="user"') == 2
    assert dom.count("<section>") == 2
    assert "&lt;script&gt;" in dom
    assert 'class="damaged"' in dom
    screenshot = tmp_path / "page.png"
    browser(f"--screenshot={screenshot}", "--window-size=800,1000", page.as_uri())
    assert screenshot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("more", [("--follow",), ("--json",)])
def test_html_goes_with_nothing_else(run: Callable[..., Result], more: Any) -> None:
    assert run("show", "ada", "--html", "x.html", *more).status == 2
