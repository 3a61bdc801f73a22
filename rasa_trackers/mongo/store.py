"""``MongoTrackerStore``: its options."""

from __future__ import annotations

from typing import Any, Dict, Optional

from rasa_trackers import options
from rasa_trackers.mongo.connection import (
    DEFAULT_AUTH_SOURCE,
    Address,
    create_client,
    find_collection,
)
from rasa_trackers.mongo.log import MongoEventLog
from rasa_trackers.rasa_versions import KNOWS_USERS, Domain
from rasa_trackers.tracker_store import EventLogTrackerStore, never_falls_back

#: Calls to the server at one time; they take a millisecond each.
_WORKERS = 8


class MongoTrackerStore(EventLogTrackerStore):
    """Keeps conversations in MongoDB, of any length, in buckets of some hundred events.

    Conversations in the collection that Rasa's own store has written are read and
    continued.
    """

    @never_falls_back
    def __init__(
        self,
        domain: Optional[Domain] = None,
        url: Optional[str] = None,
        event_broker: Optional[Any] = None,
        *,
        host: Optional[str] = None,
        db: str = "rasa",
        username: Optional[str] = None,
        password: Optional[str] = None,
        auth_source: Optional[str] = DEFAULT_AUTH_SOURCE,
        collection: str = "conversations",
        client_options: Optional[Dict[str, Any]] = None,
        record_exp: Optional[float] = None,
        timeout: float = options.DEFAULT_TIMEOUT,
        startup_timeout: Optional[float] = None,
        retrieve_events_from_previous_conversation_sessions: bool = False,
        **unknown: Any,
    ) -> None:
        """Connect to the server and create what is missing there.

        Args:
            domain: The assistant's domain; Rasa sets it later.
            url: URL of the server, ``mongodb://`` or ``mongodb+srv://``, with any
                options (mongodb.com/docs/manual/reference/connection-string-options),
                or ``host:port``; ``mongodb://localhost:27017`` unless given.
            event_broker: Where new events are published, or ``None``.
            host: Another name of ``url``; Rasa 3 passes that one.
            db: Name of the database.
            username: User name; ``None`` or 0 for none, or for that in the URL.
            password: Password of the user.
            auth_source: Database that knows the user, unless the URL names one.
            collection: Name of the collection.
            client_options: More options of ``pymongo.MongoClient``.
            record_exp: Seconds after its last message that a conversation is erased.
            timeout: Seconds that the server may stay silent in any call.
            startup_timeout: Seconds to wait now for a server that is not up yet;
                ``timeout`` unless given.
            retrieve_events_from_previous_conversation_sessions: Whether ``retrieve``
                gives all sessions instead of the last one.
            unknown: Refused.

        Raises:
            ConnectionException: when the server could not be reached in time.
            RasaException: for an option that is unknown or has no sensible value, a
                missing driver, and all that the server refuses.
        """
        options.reject_unknown(type(self), unknown)
        timeout = options.timeout(timeout)
        startup_timeout = options.timeout(startup_timeout, "startup_timeout", timeout)
        expiry = options.seconds("record_exp", record_exp, None)
        all_sessions = options.flag(
            "retrieve_events_from_previous_conversation_sessions",
            retrieve_events_from_previous_conversation_sessions,
        )
        address = Address(options.url_or_host(url, host))
        db = options.text("db", db) or "rasa"
        collection = options.text("collection", collection) or "conversations"
        password = options.text("password", password)
        client = create_client(
            address,
            # 0 is the default that Rasa's documentation gives.
            username=options.text("username", username or None),
            password=password,
            auth_source=options.text("auth_source", auth_source),
            client_options=options.mapping("client_options", client_options),
            timeout=timeout,
        )
        log = MongoEventLog(
            client,
            find_collection(client, db, collection),
            name=f"MongoDB collection '{db}.{collection}' at {address.hosts}",
            record_exp=expiry,
            knows_users=KNOWS_USERS,
        )
        super().__init__(
            domain,
            event_broker,
            log,
            timeout=timeout,
            startup_timeout=startup_timeout,
            workers=_WORKERS,
            record_exp=expiry,
            retrieve_events_from_previous_conversation_sessions=all_sessions,
            secrets=[password, *address.secrets],
        )
