"""MariaDB, or a MySQL server that ``TEST_MYSQL_URL`` names."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, List, Optional

from backends.backend import ALL_SUITES, Backend, Endpoint, Fault
from backends.sql_rows import SELECT, grouped


class MariaDB(Backend):
    """A database is one of the server's."""

    name = "mariadb"
    label = "MariaDB"
    suites = ALL_SUITES
    fixture = "mariadb_server"
    profile = "mariadb"
    append = begin = b"INSERT INTO events"

    def make_server(self) -> Any:
        from servers.mariadb import MariaDBServer

        return MariaDBServer()

    def create(self, server: Any, others: int = 0) -> str:
        name: str = server.create_database()
        return name

    def drop(self, server: Any, name: str) -> None:
        server.drop_database(name)

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        return {
            "type": "rasa_trackers.SQLTrackerStore",
            "dialect": "mysql+pymysql",
            "url": server.host,
            "port": port or server.port,
            "db": name,
            "username": server.username,
            "password": server.password,
        }

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        with contextlib.closing(
            server.connect(name)
        ) as connection, connection.cursor() as cursor:
            cursor.execute(SELECT)
            return grouped(cursor.fetchall())

    def server_versions(self, server: Any) -> Dict[str, str]:
        ((version,),) = server.administer("SELECT version()")
        return {"MariaDB" if "MariaDB" in version else "MySQL": version.split("-")[0]}

    def driver_versions(self) -> Dict[str, str]:
        import pymysql

        return {"PyMySQL": pymysql.VERSION_STRING}

    def own_faults(self, target: Any) -> Dict[str, Fault]:
        return {"connections exhausted": lambda seconds: exhaust(target, seconds)}


def exhaust(target: Any, seconds: float) -> None:
    """Take all connections that the server has."""
    import pymysql

    taken: List[Any] = []
    try:
        for _ in range(2):
            with contextlib.suppress(pymysql.err.OperationalError):
                while True:
                    taken.append(target.server.connect(target.database.name))
            target.proxy.cut()  # and take what the writers had
        time.sleep(seconds)
    finally:
        for connection in taken:
            connection.close()
