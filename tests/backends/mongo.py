"""MongoDB's protocol, by SecantusDB."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from backends.backend import ALL_SUITES, Backend, Endpoint


class Mongo(Backend):
    """A database is made by the first write."""

    name = "mongo"
    label = "MongoDB protocol"
    suites = ALL_SUITES
    fixture = "mongo_server"
    profile = "mongo"
    append = b"$push"
    begin = b"insert\0"

    def make_server(self) -> Any:
        from servers.mongo import MongoServer

        return MongoServer()

    def create(self, server: Any, others: int = 0) -> str:
        name: str = server.database_name()
        return name

    def drop(self, server: Any, name: str) -> None:
        server.drop_database(name)

    def endpoint(self, server: Any, name: str, port: Optional[int] = None) -> Endpoint:
        url = server.url(port)
        # Otherwise a replica set would name the server's own port. Before 3.11, pymongo
        # has no such option and stays where it is told.
        if port and self._can_be_told_to_stay:
            url += "/?directConnection=true"
        return {"type": "rasa_trackers.MongoTrackerStore", "url": url, "db": name}

    @property
    def _can_be_told_to_stay(self) -> bool:
        import pymongo

        return tuple(pymongo.version_tuple[:2]) >= (3, 11)

    def texts(self, server: Any, name: str) -> Dict[str, List[str]]:
        found: Dict[str, List[str]] = {}
        with server.client() as client:
            documents = {one["_id"]: one for one in client[name].conversations.find()}
        for document in documents.values():
            if "bucket" in document:
                continue
            log = document["log"]
            while "previous" in document:
                document = documents[document["previous"]]  # noqa: PLW2901 - the chain
                log = document["log"] + log
            found[document["sender_id"]] = [event["data"] for event in log]
        return found

    def server_versions(self, server: Any) -> Dict[str, str]:
        from servers import wheels
        from servers.mongo import DISTRIBUTION

        _, _, version = wheels.requirement(DISTRIBUTION).partition("==")
        return {"SecantusDB": version}

    def driver_versions(self) -> Dict[str, str]:
        import pymongo

        return {"pymongo": pymongo.version}

    def small_pool(self, endpoint: Endpoint) -> Tuple[Endpoint, Dict[str, str]]:
        return {**endpoint, "client_options": {"maxPoolSize": 1}}, {}


class MongoReplicaSet(Mongo):
    """Here the driver would by default repeat a write that has failed."""

    name = "mongo-replica-set"
    suites = frozenset(("faults",))
    fixture = "mongo_replica_set"
    profile = None

    def make_server(self) -> Any:
        from servers.mongo import MongoServer

        return MongoServer(replica_set=True)
