"""Oracle where there is a server, otherwise H2 in its Oracle mode."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from backends.backend import Backend, Database, Endpoint
from backends.sql_rows import SELECT, grouped

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parents[1]
#: Holds the driver that passes for cx_Oracle.
H2_MODULES = str(TESTS / "servers" / "h2_modules")


class Oracle(Backend):
    """A database is H2's, or the schema of the one user of an Oracle server."""

    name = "oracle"
    label = "Oracle (H2)"
    suites = frozenset(("contract", "stores", "writers", "survival"))
    #: H2's databases live in the memory of its process.
    outlives_crash = False
    #: The survival tests put a proxy before H2; an Oracle server names its own port.
    is_metered = False
    fixture = "oracle_server"
    profile = "oracle"
    append = begin = b"INSERT INTO"
    modules = (H2_MODULES,)

    def make_server(self) -> Any:
        from servers.h2 import H2Server

        return H2Server()

    def create(self, server: Any, others: int = 0) -> str:
        name: str = server.create_database()
        return name

    def drop(self, server: Any, name: str) -> None:
        server.drop_database(name)

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        from servers.h2 import H2Server

        if not isinstance(server, H2Server):
            return dict(server.endpoint)
        endpoint = server.endpoint(name)
        return {**endpoint, "port": port or endpoint["port"]}

    @contextlib.contextmanager
    def database(self, request: pytest.FixtureRequest) -> Iterator[Database]:
        """H2 by a driver that passes for cx_Oracle, also in processes of the test."""
        from servers import h2, h2_driver

        with super().database(request) as database:
            if isinstance(database.server, h2.H2Server):
                # The test's own, so that what it sets is undone in the right order.
                patch = request.getfixturevalue("monkeypatch")
                path = os.pathsep.join([H2_MODULES, str(TESTS)])
                patch.setenv("PYTHONPATH", path)
                patch.setitem(sys.modules, "cx_Oracle", h2_driver)
            yield database

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        from servers import h2, h2_driver

        connection = h2_driver.connect(
            user=h2.USER,
            password=h2.PASSWORD,
            dsn=f"(HOST={server.host})(PORT={server.port})(SERVICE_NAME={name})",
        )
        with contextlib.closing(connection):
            cursor = connection.cursor()
            cursor.execute(SELECT)
            return grouped(
                (sender_id, text.read() if hasattr(text, "read") else text)
                for sender_id, text in cursor.fetchall()
            )

    def differences(self, server: Any) -> Dict[str, str]:
        from servers.h2 import H2Server

        if not isinstance(server, H2Server):
            return {}
        reason = "H2 counts and compares UTF-16, and Oracle characters"
        return dict.fromkeys(
            (
                "test_sender_ids_of_the_greatest_length_beyond_the_basic_plane",
                "test_user_ids_of_the_greatest_length_beyond_the_basic_plane",
                "test_sender_ids_are_in_the_order_of_code_points",
            ),
            reason,
        )

    def server_versions(self, server: Any) -> Dict[str, str]:
        return {"H2": "in Oracle mode"}
