from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable

import hypothesis
import pytest

import rasa_trackers


def pytest_configure() -> None:
    # A shell lets what it starts in the background ignore Ctrl-C. So would the programs
    # that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sources = Path(__file__).parents[1] / "rasa_trackers"
    if Path(rasa_trackers.__file__).parent == sources and "CI" in os.environ:
        raise pytest.UsageError(
            "rasa_trackers comes from the sources, not from the wheel; "
            "use `nox -s tests`"
        )


# A machine that has much to do is no failure of what is tested on it.
hypothesis.settings.register_profile(
    "slow machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("slow machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    # Before 0.24, which is for Python 3.8 and later, pytest-asyncio has no such option.
    with contextlib.suppress(ValueError):
        parser.addini("asyncio_default_fixture_loop_scope", "as pytest-asyncio's own")


def pytest_collect_file(file_path: Path) -> None:
    """Prepare Rasa for tests that import it; those of the contract do not."""
    is_test = file_path.name.startswith("test_") and "contract" not in file_path.parts
    if not is_test or not importlib.util.find_spec("rasa"):
        return
    with contextlib.suppress(ImportError):  # rasa_versions is tested by itself
        from older_rasa import add_newer_names

        add_newer_names()


pytest_plugins = [
    "alone",
    "hanging",
    "mongo_fixtures",
    "redis_fixtures",
    "servers.fixtures",
    "store_fixtures",
]

# Otherwise Rasa Pro's LiteLLM looks for a newer list of prices at each import.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("POSTGRESQL_", "SQL_TRACKER_STORE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Awaits until a condition holds; fails after a minute."""

    async def eventually(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not await condition():
            assert time.monotonic() < deadline, "did not come about"
            await asyncio.sleep(0.05)

    return eventually
