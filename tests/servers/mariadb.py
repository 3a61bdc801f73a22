"""MariaDB 10.11, from Debian's package, or another server that speaks its protocol."""

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import unquote, urlsplit

import pymysql

from servers import debian
from servers.postgres import UNPRIVILEGED_USER
from servers.process import Server
from servers.wheels import is_root

PACKAGES = ("mariadb-server-core", "libaio1", "libnuma1", "liburing2")

#: The scripts of the package that make the server's own tables.
SCRIPTS = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
)
#: How to reach a MySQL or MariaDB server that the tests use instead:
#: ``mysql://administrator:password@host:port``.
URL_VARIABLE = "TEST_MYSQL_URL"


class MariaDBAccess:
    """How to reach a server, and databases in it for the tests.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        username: A user who has the databases of `create_database`.
        password: The user's password.
        administrator_name: A user with all rights.
        administrator_password: That user's password.
    """

    username = "tracker"
    password = "p@ss/word:%1"

    def __init__(
        self, host: str, port: int, administrator_name: str, administrator_password: str
    ) -> None:
        self.host = host
        self.port = port
        self.administrator_name = administrator_name
        self.administrator_password = administrator_password

    def connect(
        self, database: Optional[str] = None, **options: Any
    ) -> "pymysql.connections.Connection[Any]":
        """A connection as `username`, in autocommit mode; the caller closes it.

        Args:
            database: Name of a database.
            options: Any option of `pymysql.connect`.
        """
        defaults: Dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.username,
            "password": self.password,
            "database": database,
            "connect_timeout": 10,
            "charset": "utf8mb4",
        }
        return pymysql.connect(**{**defaults, "autocommit": True, **options})

    def administrator(
        self, database: Optional[str] = None
    ) -> "pymysql.connections.Connection[Any]":
        """As `connect`, as administrator."""
        return self.connect(
            database,
            user=self.administrator_name,
            password=self.administrator_password,
        )

    def administer(self, *statements: str, database: Optional[str] = None) -> List[Any]:
        """Run statements as administrator; gives the rows of the last one."""
        rows: List[Any] = []
        with contextlib.closing(
            self.administrator(database)
        ) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def create_user(self) -> None:
        """Make `username`, who may do all in databases whose names begin with test_."""
        self.administer(
            f"CREATE USER IF NOT EXISTS {self.username}@'%' "
            f"IDENTIFIED BY '{self.password}'",
            f"GRANT ALL ON `test\\_%`.* TO {self.username}@'%'",
        )

    def create_database(self) -> str:
        """Make an empty database, and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        # The server's own default, which ignores case, as where an operator made it.
        self.administer(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database."""
        self.administer(f"DROP DATABASE IF EXISTS `{name}`")


class MariaDBServer(MariaDBAccess, Server):
    """A MariaDB server with real durability.

    `password` has characters that have a meaning in URLs.
    """

    _not_ready = (pymysql.err.OperationalError,)

    def __init__(
        self,
        settings: Optional[Mapping[str, object]] = None,
        *,
        certificate: Optional[str] = None,
    ) -> None:
        """Make the data folder.

        Args:
            settings: More of my.cnf, such as `{"max_connections": 20}`.
            certificate: A file with a key and a certificate chain, for TLS.

        Raises:
            RuntimeError: If the package cannot be had.
        """
        Server.__init__(self)
        MariaDBAccess.__init__(self, self.host, self.port, "root", self.password)
        self._packages = debian.unpacked(*PACKAGES)
        self._share = self._packages / "usr/share/mysql"
        self.settings: Dict[str, object] = {
            "bind_address": self.host,
            "port": self.port,
            "socket": "",
            # A server that starts removes the temporary tables that it finds.
            "tmpdir": self.folder / "tmp",
            "skip_name_resolve": "ON",
            "innodb_flush_log_at_trx_commit": 1,
            # Small, as nothing is big in the tests.
            "innodb_log_file_size": "16M",
            "innodb_buffer_pool_size": "32M",
            **(settings or {}),
        }
        if certificate:
            own = shutil.copy(certificate, str(self.folder / "certificate.pem"))
            self.settings.update(ssl_cert=own, ssl_key=own)
        try:
            self._initialise()
        except BaseException:
            self.remove()
            raise

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _initialise(self) -> None:
        self._data.mkdir()
        (self.folder / "tmp").mkdir()
        scripts = [(self._share / name).read_text("utf-8") for name in SCRIPTS]
        # Of users, the scripts make some without a password, one a line.
        users = [
            "DELETE FROM global_priv WHERE User IN ('', 'root')",
            "FLUSH PRIVILEGES",
            f"CREATE USER {self.administrator_name}@'%' IDENTIFIED BY '{self.password}'",
            f"GRANT ALL ON *.* TO {self.administrator_name}@'%' WITH GRANT OPTION",
        ]
        text = "\n".join(
            [
                "CREATE DATABASE mysql;",
                "USE mysql;",
                *scripts,
                *(f"{u};" for u in users),
            ]
        )
        script = self.folder / "initial.sql"
        script.write_text(text + "\n", encoding="utf-8")
        if is_root():
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(str(path), UNPRIVILEGED_USER)
        _run_script(
            script, *self._program(), "--bootstrap", "--innodb-flush-method=nosync"
        )

    def _program(self) -> List[str]:
        libraries = next((self._packages / "usr/lib").glob("*-linux-gnu"))
        command = [
            "env",
            f"LD_LIBRARY_PATH={libraries}",
            str(self._packages / "usr/sbin/mariadbd"),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--lc-messages-dir={self._share}",
            f"--character-sets-dir={self._share / 'charsets'}",
            *(
                f"--{name.replace('_', '-')}={value}"
                for name, value in self.settings.items()
            ),
        ]
        return [*command, f"--user={UNPRIVILEGED_USER}"] if is_root() else command

    def _command(self) -> List[str]:
        return [*self._program(), f"--pid-file={self._data / 'pid'}"]

    def _is_ready(self) -> bool:
        self.create_user()
        return True


def _run_script(script: Path, *command: str) -> None:
    """Run a command that reads a script, `env` with a variable and a program.

    Raises:
        RuntimeError: If it fails, with its last output.
    """
    with script.open("rb") as text:
        done = subprocess.run(
            command,
            check=False,
            stdin=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    if done.returncode:
        raise RuntimeError(f"{command[2]} failed:\n{done.stdout[-2000:]}")


def server_from_outside() -> Optional[MariaDBAccess]:
    """The server that the environment variable names, ready for the tests."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        return None
    parts = urlsplit(url)
    access = MariaDBAccess(
        parts.hostname or "localhost",
        parts.port or 3306,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
    access.create_user()
    return access
