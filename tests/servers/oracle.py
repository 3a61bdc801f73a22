"""A real Oracle server, which none of the wheels holds: in a container, or anyone's."""

from typing import Any, Dict, List, Tuple

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine.url import make_url

from rasa_trackers.sql.oracle.address import place
from rasa_trackers.sql.oracle.engine import oracle_engine
from servers.process import wait_until

#: Names the server's environment variable, and the user's URL is in it.
URL_VARIABLE = "TEST_ORACLE_URL"
TIMEOUT = 30.0
DROP_SECONDS = 60.0


class OracleAccess:
    """The schema of a user, in which each test finds nothing.

    The user needs CREATE SESSION, CREATE TABLE, CREATE SEQUENCE and room for tables, as
    the user of gvenzl's images has; another user for each test would take an
    administrator. Tests run one after the other, so one schema will do.

    Attributes:
        endpoint: The tracker_store section that names the schema.
    """

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: SQLAlchemy's URL, with user, password and a service name or a SID.

        Raises:
            RuntimeError: If there is anything in the schema, which would be lost.
        """
        parsed = make_url(url)
        query = dict(parsed.query)
        if parsed.database:
            query["sid"] = parsed.database
        self.endpoint: Dict[str, Any] = {
            "type": "rasa_trackers.OracleTrackerStore",
            "dialect": parsed.drivername,
            "url": parsed.host,
            "port": parsed.port,
            "db": query.pop("service_name", None),
            "username": parsed.username,
            "password": str(parsed.password),
            "query": query,
        }
        self._engine = oracle_engine(
            parsed, place(parsed, TIMEOUT), timeout=TIMEOUT, workers=1
        )
        found = [name for _, name in self._objects()]
        if found:
            self.close()
            raise RuntimeError(
                f"The tests need an empty schema, and {parsed.username}'s has "
                f"{', '.join(found)}. Drop that if it was left by tests, or let "
                f"{URL_VARIABLE} name another user."
            )

    def create_database(self) -> str:
        """Empty the schema; gives the service name."""
        self.drop_database("")
        return str(self.endpoint["db"])

    def drop_database(self, _name: str) -> None:
        """Drop all that is in the schema, whoever is connected to it."""
        for kind, name in self._objects():
            options = " CASCADE CONSTRAINTS PURGE" if kind == "TABLE" else ""
            statement = f'DROP {kind} "{name}"{options}'
            wait_until(
                lambda statement=statement: self._dropped(statement),
                statement,
                DROP_SECONDS,
            )

    def execute(self, _name: str, statement: str) -> None:
        """Run a statement and commit."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.connection.commit()

    def version(self) -> str:
        """The server's name for itself."""
        with self._engine.connect() as connection:
            query = "SELECT MIN(banner) FROM v$version"
            return str(connection.exec_driver_sql(query).scalar_one())

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _objects(self) -> List[Tuple[str, str]]:
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT object_type, object_name FROM user_objects"
                " WHERE object_type IN ('TABLE', 'SEQUENCE')"
                # What is in the recycle bin, and what goes with an identity column.
                " AND object_name NOT LIKE 'BIN$%' AND object_name NOT LIKE 'ISEQ$%'"
            )
            return [(str(kind), str(name)) for kind, name in rows]

    def _dropped(self, statement: str) -> bool:
        try:
            self.execute("", statement)
        except sqlalchemy.exc.DatabaseError as error:
            if "ORA-00054" in str(error.orig):
                return False  # a test has left a transaction, whose end takes a while
            raise
        return True


#: What means that a server is not up yet.
NOT_READY = (sa.exc.DBAPIError, OSError)
