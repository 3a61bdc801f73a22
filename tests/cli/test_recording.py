"""``docs/images/show.svg``, the picture of a terminal in the README, was run.

After a change of ``show``: ``RECORDING=write pytest tests/cli/test_recording.py``.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import List

from cli.conftest import MakeStore
from cli.conversations import BEGIN, DAY, Texts, text

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "show.svg"
COMMAND = "rasa-trackers show anna --last 15"
COLUMNS = 80

#: As rich's own, without the fonts that it loads from another host.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})"
  clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def pizza() -> List[str]:
    """What Anna ordered on two days from the assistant of the demo."""
    said: List[str] = []
    for begin, order, size, topping in (
        (BEGIN, "a pizza, please", "large", "mushrooms"),
        (BEGIN + DAY, "another pizza, please", "small", "mushrooms"),
    ):
        said += [
            text("action", begin, name="action_session_start"),
            text("session_started", begin + 0.1),
            _user(begin + 1, order, "order"),
            _action(begin + 1.2, "order_form"),
            text("active_loop", begin + 1.3, name="order_form"),
            _slot(begin + 1.4, "requested_slot", "size"),
            _bot(begin + 1.5, "Small, medium or large?"),
            _user(begin + 7, size, "inform"),
            _slot(begin + 7.1, "size", size),
            _bot(begin + 7.2, f"A {size} pizza. With which topping?"),
            _user(begin + 12, topping, "inform"),
            _slot(begin + 12.1, "topping", topping),
            text("active_loop", begin + 12.2, name=None),
            _action(begin + 12.3, "utter_ordered"),
            _bot(begin + 12.4, f"One {size} pizza with {topping} is on its way."),
        ]
    return said


def _user(timestamp: float, said: str, intent: str) -> str:
    parsed = {"intent": {"name": intent, "confidence": 0.99}, "entities": []}
    return text("user", timestamp, text=said, parse_data=parsed, input_channel="rest")


def _bot(timestamp: float, said: str) -> str:
    return text("bot", timestamp, text=said, data={}, metadata={})


def _slot(timestamp: float, name: str, value: str) -> str:
    return text("slot", timestamp, name=name, value=value)


def _action(timestamp: float, name: str) -> str:
    return text("action", timestamp, name=name, policy="RulePolicy", confidence=1.0)


def on_a_terminal(folder: Path) -> str:
    """What the command prints where it has colours."""
    reader, writer = pty.openpty()
    environment = {
        name: value for name, value in os.environ.items() if name != "NO_COLOR"
    }
    environment.update(COLUMNS=str(COLUMNS), TERM="xterm-256color")
    with subprocess.Popen(
        [sys.executable, "-m", *COMMAND.replace("-", "_", 1).split()],
        cwd=str(folder),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    ) as process:
        os.close(writer)
        printed = b""
        with contextlib.suppress(OSError):  # on Linux, when the other end is closed
            while part := os.read(reader, 65536):
                printed += part
    os.close(reader)
    said = printed.decode("utf-8").replace("\r\n", "\n")
    assert process.returncode == 0, said
    return said


def picture_of(printed: str) -> str:
    from rich.console import Console
    from rich.text import Text

    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True
    )
    console.print(Text.from_ansi(f"\x1b[1m$ {COMMAND}\x1b[0m\n{printed.rstrip()}"))
    svg = console.export_svg(title="rasa-trackers", code_format=_SVG, unique_id="show")
    # Sums of floats, such as 24.400000000000002.
    return re.sub(r'(?<==")\d+\.\d+(?=")', lambda found: f"{float(found[0]):.1f}", svg)


def test_the_picture_shows_what_the_command_says(
    make: MakeStore, tmp_path: Path
) -> None:
    store = make("sqlite")
    store.fill({"anna": Texts(pizza(), "user-1")})
    (tmp_path / "endpoints.yml").write_bytes(Path(store.path).read_bytes())
    picture = picture_of(on_a_terminal(tmp_path))
    if os.environ.get("RECORDING") == "write":
        PICTURE.write_text(picture, encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == picture
