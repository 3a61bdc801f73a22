"""``SQLTrackerStore`` and ``OracleTrackerStore``: the classes for ``endpoints.yml``."""

from rasa_trackers.sql.options import ORACLE, SQL
from rasa_trackers.tracker_store import EventLogTrackerStore


class SQLTrackerStore(EventLogTrackerStore):
    """Keeps conversations in an SQL database, in the tables of Rasa's own store.

    SQLite, PostgreSQL, MySQL, MariaDB and Oracle keep every promise of
    :class:`~rasa_trackers.event_log.EventLog`. Other databases for which SQLAlchemy has
    a dialect are probed when the store starts.
    """

    backend = SQL


class OracleTrackerStore(EventLogTrackerStore):
    """Keeps conversations in an Oracle database, 11.2 or later.

    The same as :class:`SQLTrackerStore` with ``dialect: oracle+cx_oracle`` or
    ``oracle+oracledb``, but Oracle's own options stand beside ``query`` and not in it.
    """

    backend = ORACLE
