"""PostgreSQL."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from backends.backend import ALL_SUITES, Backend, Endpoint, Fault
from backends.sql_rows import SELECT, grouped


class PostgreSQL(Backend):
    """A database is one of the server's."""

    name = "postgresql"
    label = "PostgreSQL"
    suites = ALL_SUITES
    fixture = "postgres_server"
    profile = "postgres"
    append = begin = b"INSERT INTO"

    def make_server(self) -> Any:
        from servers.postgres import PostgresServer

        return PostgresServer()

    def create(self, server: Any, others: int = 0) -> str:
        name: str = server.create_database()
        return name

    def drop(self, server: Any, name: str) -> None:
        server.drop_database(name)

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        return {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "postgresql",
            "url": server.host,
            "port": port or server.port,
            "db": name,
            "username": server.username,
            "password": server.password,
        }

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        connection = server.connect(name)
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(SELECT)
            return grouped(cursor)

    def server_versions(self, server: Any) -> Dict[str, str]:
        with contextlib.closing(server.administrator()) as connection:
            number = connection.server_version
        return {"PostgreSQL": f"{number // 10_000}.{number % 10_000}"}

    def driver_versions(self) -> Dict[str, str]:
        import psycopg2

        return {"psycopg2": psycopg2.__version__.split()[0]}

    def settle(self, server: Any, names: Sequence[str]) -> None:
        # As autovacuum does within a minute. Rasa's own store is 60 times slower while
        # the planner knows nothing of the table, and that is no steady state.
        for name in names:
            with contextlib.closing(server.connect(name)) as connection:
                connection.cursor().execute("VACUUM ANALYZE events")

    def own_faults(self, target: Any) -> Dict[str, Fault]:
        return {"connections exhausted": lambda seconds: exhaust(target, seconds)}

    def small_pool(self, endpoint: Endpoint) -> Tuple[Endpoint, Dict[str, str]]:
        return endpoint, {"POSTGRESQL_POOL_SIZE": "1", "POSTGRESQL_MAX_OVERFLOW": "1"}


def exhaust(target: Any, seconds: float) -> None:
    """Take all connections that the server has."""
    import psycopg2

    taken: List[Any] = []
    try:
        for _ in range(2):
            with contextlib.suppress(psycopg2.OperationalError):
                while True:
                    taken.append(target.server.connect(target.database.name))
            target.proxy.cut()  # and take what the writers had
        time.sleep(seconds)
    finally:
        for connection in taken:
            connection.close()
