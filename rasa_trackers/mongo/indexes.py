"""The indexes of the collection, created where they are missing."""

from __future__ import annotations

import logging
import threading
from typing import List, NamedTuple, Optional, Sequence, Set, Tuple

from pymongo.collection import Collection
from pymongo.errors import NetworkTimeout, OperationFailure

from rasa_trackers.mongo.buckets import USER_ID, Document
from rasa_trackers.mongo.failures import is_transient, primary_message

logger = logging.getLogger(__name__)

#: Seconds to wait for new indexes. A collection that is new has them at once.
_PATIENCE = 2.0


class Index(NamedTuple):
    """An index of the collection."""

    name: str
    keys: List[Tuple[str, int]]
    options: Document
    #: What is worse without it.
    use: str


#: Rasa's own index on ``sender_id`` stands in for it where it exists; then the server
#: looks at all documents of the conversation.
SENDER_ID = Index(
    "sender_id_1_bucket_1",
    [("sender_id", 1), ("bucket", 1)],
    {},
    "conversations of more than one bucket are searched for in the whole collection",
)
EXPIRY = Index(
    "expires_at_1",
    [("expires_at", 1)],
    {"expireAfterSeconds": 0},
    "expired conversations are erased by Rasa and not by the server",
)
CHECK = Index(
    "check_at_1",
    [("check_at", 1)],
    {"sparse": True},
    "the older parts of expired conversations are searched for in the whole collection",
)
UNCLEAN = Index(
    "unclean_1",
    [("unclean", 1)],
    {"sparse": True},
    "what a process that died while erasing has left is found when the conversation "
    "is erased again, and not at the next start",
)
#: Rasa Pro's own, under the name that it gives it.
USER = Index(
    f"{USER_ID}_1",
    [(USER_ID, 1)],
    {"sparse": True},
    "the conversations of a user are searched for in the whole collection",
)


def create_missing(
    collection: Collection[Document], place: str, wanted: Sequence[Index]
) -> Set[str]:
    """Create the indexes that are missing.

    Args:
        collection: The collection.
        place: How messages name it.
        wanted: The indexes.

    Returns:
        The names of the indexes that are there.
    """
    there = _names(collection)
    missing = [index for index in wanted if index.name not in there]
    if not missing:
        return there
    # A server that has much to index takes longer than any answer may, and goes on when
    # nobody waits.
    build = _Build(collection, place, missing)
    build.start()
    build.join(_PATIENCE)
    if build.is_alive():
        logger.warning(
            "%s: the server is creating the indexes %s. Until it has, reads are slower.",
            place,
            ", ".join(index.name for index in missing),
        )
        # Do not list the indexes again: a server that builds one may block that too.
        return there
    if build.error is not None:
        raise build.error
    return _names(collection)


def _names(collection: Collection[Document]) -> Set[str]:
    try:
        return set(collection.index_information())
    except OperationFailure as error:
        if is_transient(error):
            raise
        return set()


class _Build(threading.Thread):
    """Creates indexes, for as long as it takes."""

    error: Optional[Exception] = None

    def __init__(
        self, collection: Collection[Document], place: str, indexes: List[Index]
    ) -> None:
        super().__init__(name="rasa_trackers-indexes", daemon=True)
        self._collection = collection
        self._place = place
        self._indexes = indexes

    def run(self) -> None:
        try:
            for index in self._indexes:
                self._create(index)
        except NetworkTimeout:
            pass  # the server goes on; if it has died, the next call says so
        except Exception as error:  # noqa: BLE001 - for create_missing to raise
            self.error = error

    def _create(self, index: Index) -> None:
        try:
            self._collection.create_index(index.keys, name=index.name, **index.options)
        except OperationFailure as error:
            if is_transient(error):
                raise
            logger.warning(
                "%s: the index %s on %s could not be created: %s. All works, but %s. Let "
                "an administrator create it%s.",
                self._place,
                index.name,
                ", ".join(field for field, _ in index.keys),
                primary_message(error),
                index.use,
                f", with the options {index.options}" if index.options else "",
            )
