"""The store in memory, which has no server and nothing that outlives a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from backends.backend import Backend, Endpoint

if TYPE_CHECKING:
    import pytest


class Memory(Backend):
    """Nothing to be had or removed."""

    name = "memory"
    label = "Memory"
    durable = outlives_crash = has_port = False

    def make_server(self) -> Any:
        return None

    def server_for_all(self, request: pytest.FixtureRequest) -> Any:
        return None

    def create(self, server: Any, others: int = 0) -> str:
        return ""

    def drop(self, server: Any, name: str) -> None:
        pass

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        return {"type": "rasa_trackers.InMemoryTrackerStore"}
