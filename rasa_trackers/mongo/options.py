"""The options of the MongoDB store, and the log that they make."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from rasa_trackers.backend import Backend, MadeLog
from rasa_trackers.errors import store_error
from rasa_trackers.mongo.connection import Address, create_client, find_collection
from rasa_trackers.mongo.log import MongoEventLog
from rasa_trackers.store_options import Option, mapping, text

DEFAULT_AUTH_SOURCE = "admin"

#: Calls to the server at one time; each takes about a millisecond.
_WORKERS = 8


def _username(name: str, value: Any) -> Optional[str]:
    # 0 is the default in Rasa's documentation.
    return text(name, value or None)


def _no_port(name: str, value: Any) -> None:
    if value is not None:
        raise store_error(
            "MongoTrackerStore has no option 'port': the port is a part of 'url', as in "
            "url: mongodb://host:27017. Correct the tracker_store section of "
            "endpoints.yml."
        )


def _make_log(values: Mapping[str, Any], keep_users: bool) -> MadeLog:
    address = Address(values["url"])
    db = values["db"] or "rasa"
    auth_source = address.options.get("authsource") or values["auth_source"]
    if address.database not in ("", db, auth_source):
        raise store_error(
            f"The option 'url' of the tracker store names the database "
            f"'{address.database}', but conversations are kept in '{db}', as 'db' says. "
            f"Remove it from 'url', or set 'db' to it in endpoints.yml. (A database that "
            f"knows the user is 'auth_source'.)"
        )
    collection = values["collection"] or "conversations"
    client = create_client(
        address,
        username=values["username"],
        password=values["password"],
        auth_source=values["auth_source"],
        client_options=values["client_options"],
        timeout=values["timeout"],
    )
    log = MongoEventLog(
        client,
        find_collection(client, db, collection),
        name=f"MongoDB collection '{db}.{collection}' at {address.hosts}",
        record_exp=values["record_exp"],
        keeps_users=keep_users,
    )
    secrets = [values["password"], *address.secrets]
    return MadeLog(log, _WORKERS, secrets, place=log.name)


MONGO = Backend(
    "MongoTrackerStore",
    (
        Option(
            "url",
            text,
            None,
            "[Connection string](https://www.mongodb.com/docs/manual/reference/"
            "connection-string/) with any options, or `host:port`; "
            "`mongodb://localhost:27017` unless given. `mongodb+srv://` needs the "
            "package `dnspython`.",
        ),
        Option(
            "db",
            text,
            "rasa",
            "Name of the database. Another one in `url` is an error.",
        ),
        Option("username", _username, None, "User name, unless `url` names the user."),
        Option("password", text, None, "Password of the user."),
        Option(
            "auth_source",
            text,
            DEFAULT_AUTH_SOURCE,
            "Database that knows the user, unless `url` says `authSource`.",
        ),
        Option("collection", text, "conversations", "Name of the collection."),
        Option(
            "client_options",
            mapping,
            None,
            "More options of `pymongo.MongoClient`, such as `maxPoolSize: 20`.",
        ),
        Option("port", _no_port, None, "Not an option: the port is a part of `url`."),
    ),
    _make_log,
)
