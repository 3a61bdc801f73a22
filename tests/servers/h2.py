"""H2 in its Oracle mode: what comes closest to an Oracle server without being one."""

import contextlib
import os
import shutil
import socket
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional

from servers import debian, h2_driver, wheels
from servers.process import Server

PACKAGE = "libh2-java"
JAR = "usr/share/java/h2.jar"
JPYPE = "jpype1"
# Python versions that JPype has wheels for.
PYTHON_VERSIONS = ((3, 10), (3, 13))
USER = "RASA"
PASSWORD = "geheim"

#: What a session asks of Oracle's dictionary, from H2's.
DICTIONARY = """
CREATE VIEW all_ind_columns AS SELECT CURRENT_USER AS index_owner, index_name,
  CASE WHEN table_schema = 'PUBLIC' THEN CURRENT_USER ELSE table_schema END
    AS table_owner,
  table_name, column_name, ordinal_position AS column_position
FROM information_schema.index_columns
"""
OBJECTS = """
CREATE VIEW user_objects AS SELECT 'TABLE' AS object_type, table_name AS object_name
FROM information_schema.tables
WHERE table_schema = 'PUBLIC' AND table_type = 'BASE TABLE'
UNION ALL SELECT 'SEQUENCE', sequence_name
FROM information_schema.sequences WHERE sequence_schema = 'PUBLIC'
"""


def check_java() -> None:
    """See that there is a Java runtime; JPype looks for one the same way.

    Raises:
        RuntimeError: If there is none.
    """
    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        raise RuntimeError(
            "H2 needs Java, and there is none: apt-get install default-jre-headless"
        )


def jar_file() -> Path:
    """H2 itself: as installed, or from Debian's package, unpacked into a cache.

    Raises:
        RuntimeError: If it cannot be had, with apt's own words.
    """
    installed = Path("/") / JAR
    if installed.exists():
        return installed
    return debian.unpacked(PACKAGE) / JAR


class H2Server(Server):
    """An H2 server whose databases live in its memory."""

    def __init__(self) -> None:
        super().__init__()
        try:
            check_java()
            self._jar = jar_file()
            self._python = wheels.environment(JPYPE, PYTHON_VERSIONS)
        except BaseException:
            self.remove()
            raise

    def _command(self) -> List[str]:
        bridge = Path(__file__).with_name("h2_bridge.py")
        return [str(part) for part in (self._python, bridge, self._jar, self.port)]

    def _is_ready(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True

    def create_database(
        self, name: Optional[str] = None, user: str = USER, password: str = PASSWORD
    ) -> str:
        """A new, empty database; gives its name, which is its service name."""
        name = name or f"test_{uuid.uuid4().hex}"
        with contextlib.closing(self._connect(name, user, password, True)) as made:
            for view in (DICTIONARY, OBJECTS):
                made.cursor().execute(view)
            made.commit()
        return name

    def endpoint(self, name: str) -> Dict[str, Any]:
        """The tracker_store section that names a database."""
        return {
            "type": "rasa_trackers.OracleTrackerStore",
            "dialect": "oracle+cx_oracle",
            "url": self.host,
            "port": self.port,
            "db": name,
            "username": USER,
            "password": PASSWORD,
        }

    def execute(self, name: str, statement: str) -> None:
        """Run a statement in a connection of its own, and commit."""
        with contextlib.closing(self._connect(name)) as connection:
            connection.cursor().execute(statement)
            connection.commit()

    def drop_database(
        self, name: str, user: str = USER, password: str = PASSWORD
    ) -> None:
        """End a database, whoever is connected to it."""
        with contextlib.suppress(
            h2_driver.DatabaseError
        ):  # its own connection ends as well
            connection = self._connect(name, user, password)
            connection.cursor().execute("SHUTDOWN IMMEDIATELY")

    def _connect(
        self,
        name: str,
        user: str = USER,
        password: str = PASSWORD,
        create: bool = False,
    ) -> h2_driver.Connection:
        return h2_driver.connect(
            user=user,
            password=password,
            dsn=f"(HOST={self.host})(PORT={self.port})(SERVICE_NAME={name})",
            create=create,
        )
