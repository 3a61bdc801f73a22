"""PgBouncer, from Debian's package."""

import contextlib
import shutil
from typing import Any, Dict, List

import psycopg2

from servers import debian
from servers.postgres import UNPRIVILEGED_USER, PostgresServer
from servers.process import Server
from servers.wheels import is_root

PACKAGES = ("pgbouncer", "libevent-2.1-7", "libc-ares2")


class PgBouncer(Server):
    """A pooler before a PostgreSQL server; its databases are those of the server."""

    _not_ready = (psycopg2.OperationalError,)

    def __init__(self, server: PostgresServer, settings: Dict[str, Any]) -> None:
        """Write its configuration.

        Args:
            server: The server behind it.
            settings: Of pgbouncer.ini, such as ``{"pool_mode": "session"}``.
        """
        super().__init__()
        self.server = server
        self._packages = debian.unpacked(*PACKAGES)
        users = self.folder / "users.txt"
        users.write_text(
            "".join(
                f'"{name}" "{server.password}"\n'
                for name in (server.username, server.administrator_name)
            ),
            encoding="utf-8",
        )
        lines = [
            "[databases]",
            f"* = host={server.host} port={server.port}",
            "[pgbouncer]",
            *(
                f"{name} = {value}"
                for name, value in {
                    "listen_addr": self.host,
                    "listen_port": self.port,
                    "unix_socket_dir": "",
                    "auth_type": "plain",
                    "auth_file": users,
                    "ignore_startup_parameters": "extra_float_digits",
                    **settings,
                }.items()
            ),
        ]
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if is_root():
            for path in (self.folder, users, configuration):
                shutil.chown(str(path), UNPRIVILEGED_USER)

    def _command(self) -> List[str]:
        libraries = next((self._packages / "usr/lib").glob("*-linux-gnu"))
        command = [
            "env",
            f"LD_LIBRARY_PATH={libraries}",
            str(self._packages / "usr/sbin/pgbouncer"),
        ]
        if is_root():
            command += ["-u", UNPRIVILEGED_USER]
        return [*command, str(self.folder / "pgbouncer.ini")]

    def _is_ready(self) -> bool:
        connection = self.server.connect("postgres", port=self.port)
        with contextlib.closing(connection):
            return True
