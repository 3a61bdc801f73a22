"""From the options of ``endpoints.yml`` to a MongoDB client."""

from __future__ import annotations

import difflib
import logging
import re
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import parse_qsl, unquote

import pymongo
from pymongo import common
from pymongo.collection import Collection
from pymongo.errors import InvalidName

from rasa_trackers.errors import sentence, store_error
from rasa_trackers.mongo.buckets import Document
from rasa_trackers.store_options import redact

logger = logging.getLogger(__name__)

DEFAULT_URL = "mongodb://localhost:27017"

#: Names that MongoClient takes beside the options of a URL.
_MORE_OPTIONS = {
    "auto_encryption_opts",
    "datetime_conversion",
    "event_listeners",
    "server_api",
    "server_selector",
}
#: Options of MongoClient that would change what documents look like to this store,
#: or that have an option of the store.
_OWN_OPTIONS = {
    "connect",
    "datetime_conversion",
    "document_class",
    "password",
    "read_preference",
    "type_registry",
    "tz_aware",
    "tzinfo",
    "unicode_decode_error_handler",
    "username",
}

#: Options that count even where the URL says otherwise, as those of Atlas do. A write
#: that the driver repeats can fail on what the first attempt has written (seen with a
#: server that was killed in between), and would look like another writer's. The tracker
#: store repeats appends itself, and finds out what the first attempt has done.
_FORCED = {"retryWrites": False}

#: Options that let a server pass which cannot prove who it is.
_WEAK_TLS = {
    "tlsinsecure",
    "tlsallowinvalidcertificates",
    "tlsallowinvalidhostnames",
}


class Address:
    """The option ``url``, parsed as far as this package has to know."""

    def __init__(self, url: Optional[str]) -> None:
        """Parse a URL.

        Args:
            url: A MongoDB URL, or hosts without ``mongodb://``.

        Raises:
            StoreError: for an option in the URL that MongoDB does not have, for a
                special character that is not percent-encoded, and for a port that is no
                number.
        """
        url = url or DEFAULT_URL
        self.url = url if "://" in url else f"mongodb://{url}"
        rest = self.url.partition("://")[2]
        authority = re.split("[/?]", rest, maxsplit=1)[0]
        credentials, _, _ = authority.rpartition("@")
        password = credentials.partition(":")[2]
        if "@" in rest[len(authority) :] or set(":@") & set(password):
            # The driver's own message would show parts of the password.
            raise store_error(
                "The option 'url' of the tracker store has a special character in a "
                "place where it separates parts of the URL. Percent-encode such "
                "characters in the user name, the password and the options: @ as %40, : "
                "as %3A, / as %2F, ? as %3F; or use the options 'username' and "
                "'password', where nothing is encoded."
            )
        place = rest[len(credentials) :].lstrip("@")
        location, _, query = place.partition("?")
        #: The servers, for messages.
        self.hosts, _, database = location.partition("/")
        #: The database in the URL, or "".
        self.database = unquote(database)
        if not all(map(_has_sensible_port, self.hosts.split(","))):
            # It is not shown, as it may be a password.
            raise store_error(
                "The option 'url' of the tracker store has a port that is no number. "
                "Correct it in endpoints.yml. After a user and a password come @ and the "
                "host: mongodb://user:password@host:27017/."
            )
        self.options: Dict[str, str] = {
            name.lower(): value
            for name, value in parse_qsl(
                query.replace(";", "&"), keep_blank_values=True
            )
        }
        #: Passwords in the URL, percent-encoded and decoded.
        self.secrets: List[str] = [
            secret
            for given in (password, self.options.get("tlscertificatekeyfilepassword"))
            if given
            for secret in (given, unquote(given))
        ]
        _check_names(self.options, "the option 'url'")


def _has_sensible_port(host: str) -> bool:
    _, colon, port = host.rpartition(":")
    return not colon or port.isdigit() or host.endswith("]")


def create_client(
    address: Address,
    *,
    username: Optional[str],
    password: Optional[str],
    auth_source: Optional[str],
    client_options: Mapping[str, Any],
    timeout: float,
) -> pymongo.MongoClient[Document]:
    """A client that has not connected yet.

    Timeouts and write concern of the URL and of ``client_options`` replace the defaults
    here.

    Raises:
        StoreError: for a value that the driver does not take.
    """
    _check_names(client_options, "'client_options'")
    given = {*address.options, *(name.lower() for name in client_options)}
    client_options = {
        name: value
        for name, value in client_options.items()
        if name.lower() != "retrywrites"
    }
    milliseconds = max(1, round(timeout * 1000))
    settings: Dict[str, Any] = {"appname": "rasa_trackers", "connect": False}
    for name in ("connectTimeoutMS", "socketTimeoutMS"):
        settings[name] = milliseconds
    # Only after that does the driver say why it has found no server. Not to be cut to less
    # than a slow connection takes.
    half = max(1_000, milliseconds // 2)
    settings["serverSelectionTimeoutMS"] = min(milliseconds, half)
    if not given & {"w", "journal", "fsync"}:
        # An acknowledged turn survives the loss of the primary.
        settings.update(w="majority", journal=True)
    if "wtimeoutms" not in given:
        settings["wTimeoutMS"] = milliseconds
    settings = {
        name: value for name, value in settings.items() if name.lower() not in given
    }
    if username is not None:
        settings["username"] = username
    if password is not None:
        settings["password"] = password
    if auth_source is not None and "authsource" not in given:
        settings["authSource"] = auth_source
    _warn_of_weak_tls({**address.options, **client_options}, address.hosts)
    secrets = [*address.secrets, password]
    try:
        for name, value in address.options.items():
            common.validate(name, value)  # the driver only warns of mistakes in a URL
        client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            address.url, **{**settings, **client_options, **_FORCED}
        )
    except Exception as error:  # noqa: BLE001 - of pymongo, ssl or dnspython
        message = sentence(redact(str(error), secrets))
        # Neither the URL nor the cause is shown, as either may hold a password.
        raise store_error(
            f"MongoDB at {address.hosts} cannot be used: {message} {_remedy(message)}"
        ) from None
    if not client.write_concern.acknowledged:
        client.close()
        raise store_error(
            "The write concern of the tracker store is w=0, with which the server does "
            "not say whether it has stored anything. Remove it from 'url' or "
            "'client_options'."
        )
    return client


def _warn_of_weak_tls(options: Mapping[str, Any], hosts: str) -> None:
    weak = [
        name
        for name, value in options.items()
        if name.lower() in _WEAK_TLS and str(value).lower() == "true"
    ]
    if weak:
        logger.warning(
            "MongoDB at %s: with %s anybody between Rasa and the server can pass for the "
            "server, read the password and change conversations. Let tlsCAFile name the "
            "certificate of the authority instead.",
            hosts,
            ", ".join(weak),
        )


def _remedy(message: str) -> str:
    if "dnspython" in message:
        return (
            "Install it in the environment that runs Rasa: pip install dnspython. Or "
            "name the servers: mongodb://host1,host2/."
        )
    return (
        "Correct 'url', 'username', 'password', 'auth_source' or 'client_options' of "
        "the tracker store in endpoints.yml. A URL is written as "
        "mongodb://user:password@host:27017/?tls=true, with special characters in the "
        "password percent-encoded; mongodb+srv:// needs a name server."
    )


def find_collection(
    client: pymongo.MongoClient[Document], db: str, collection: str
) -> Collection[Document]:
    """A collection of a database.

    Raises:
        StoreError: for a name that MongoDB does not take.
    """
    try:
        database = client[db]
    except (InvalidName, TypeError) as error:
        raise store_error(
            f"The option 'db' of the tracker store, {db!r}, cannot be the name of a "
            f"database in MongoDB: {error}. Correct it in endpoints.yml."
        ) from None
    try:
        return database[collection]
    except (InvalidName, TypeError) as error:
        raise store_error(
            f"The option 'collection' of the tracker store, {collection!r}, cannot be "
            f"the name of a collection in MongoDB: {error}. Correct it in endpoints.yml."
        ) from None


def _check_names(given: Mapping[str, Any], place: str) -> None:
    """Refuse options that the driver does not know; it only warns of those in a URL."""
    known = {*common.VALIDATORS, *_MORE_OPTIONS} - _OWN_OPTIONS
    for name in given:
        if name.lower() in known:
            continue
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise store_error(
            f"MongoDB's driver has no option '{name}' that could stand in {place} of "
            f"the tracker store.{hint} Correct it in endpoints.yml."
        )
