"""Event logs in Redis lists."""

from __future__ import annotations

import hashlib
import json
import logging
import pkgutil
import re
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set

import redis
from redis.cluster import RedisCluster
from redis.exceptions import ClusterError, NoScriptError, RedisClusterException

from rasa_trackers.event_log import START, Entry, EventLog, Failure, Page, Stored
from rasa_trackers.reconciliation import new_events
from rasa_trackers.redis.connection import Client, disconnect
from rasa_trackers.redis.keys import Keys, Namespace, is_ambiguous

logger = logging.getLogger(__name__)

#: Keys that one SCAN looks at: some 0.1 ms of the server's time.
_SCAN_COUNT = 1000
#: Redis counts expiry in milliseconds, in 64 bits.
_LONGEST_EXPIRY = 10**15

_REACHABLE = Failure(
    True,
    "Check that the server runs, that 'url' and 'port' are right, and that 'use_ssl' "
    "says whether it speaks TLS.",
)

#: What errors mean, by the name of redis-py's exception or the server's own code, which
#: is all that tells when the error came up within a script. The first one counts.
FAILURES: Dict[str, Failure] = {
    r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError": Failure(
        False,
        "Let 'ssl_ca_certs' name the certificate of the authority that signed the "
        "server's, and 'url' a host that stands in the server's certificate.",
    ),
    r"WRONG_VERSION_NUMBER|wrong version number|record layer failure": Failure(
        False,
        "The server does not speak TLS at this port: correct 'use_ssl' or 'port'.",
    ),
    r"\[SSL|certificate required": Failure(
        False, "Correct 'ssl_certfile', 'ssl_keyfile' and 'ssl_ca_certs'."
    ),
    r"Authentication\w*Error|WRONGPASS|NOAUTH": Failure(
        False,
        "Correct 'username' and 'password' in the tracker_store section of "
        "endpoints.yml.",
    ),
    r"AuthorizationError|NoPermission|NOPERM|ACL failure|the script can't run": Failure(
        False,
        "Let an administrator give the user of the tracker store the keys and commands "
        "that the README of rasa_trackers lists (ACL SETUSER).",
    ),
    r"OutOfMemoryError|\bOOM\b": Failure(
        False,
        "The server's memory is full: raise its maxmemory, or let conversations expire "
        "by 'record_exp'.",
    ),
    r"\bMISCONF\b": Failure(
        False,
        "The server cannot write to its disk and takes no changes: look at its log, "
        "free space or give it access.",
    ),
    r"\bWRONGTYPE\b": Failure(
        False,
        "The conversation's key holds something that is not a conversation. Look at "
        "what wrote it, and delete it, or keep apart from it by 'key_prefix' or 'db'.",
    ),
    r"ReadOnlyError|\bREADONLY\b|now a slave": Failure(
        True,
        "The server is a replica: one that failed over, or 'url' names the wrong one. "
        "Let 'url' name the master, or use 'deployment_mode: sentinel' or cluster.",
    ),
    r"\bNOREPLICAS\b": Failure(
        True, "The server waits for replicas, as its min-replicas-to-write says."
    ),
    r"BusyLoadingError|\bLOADING\b": Failure(
        True,
        "The server reads its data from the disk after a start; 'startup_timeout' "
        "sets how long to wait for it.",
    ),
    r"max number of clients|MaxConnectionsError": Failure(
        True, "Raise maxclients of the server."
    ),
    r"Cluster mode is not enabled|cluster support disabled": Failure(
        False,
        "The server is not part of a cluster: remove 'deployment_mode: cluster' from "
        "endpoints.yml.",
    ),
    r"MovedError|AskError|\b(MOVED|ASK) \d+ ": Failure(
        False,
        "The server is part of a cluster: set 'deployment_mode: cluster' in "
        "endpoints.yml.",
    ),
    r"\bunknown command\b": Failure(
        False, "rasa_trackers needs Redis 5 or newer, or a Valkey."
    ),
    r"DB index is out of range|SELECT is not allowed": Failure(
        False, "Correct 'db' in the tracker_store section of endpoints.yml."
    ),
    r"MasterNotFoundError": Failure(
        True,
        "Check that the sentinels at 'endpoints' run, and that they watch a master by "
        "the name of 'sentinel_service' which is up.",
    ),
    r"MASTERDOWN|MasterDownError|CLUSTERDOWN|ClusterDownError|SlotNotCovered": Failure(
        True, "Check that all masters run, or that replicas take their place."
    ),
    r"\bBUSY\b|TRYAGAIN|TryAgainError|ClusterError|RedisClusterException": _REACHABLE,
    r"\bConnectionError|\bTimeoutError|InvalidResponse": _REACHABLE,
    r"UnicodeEncodeError": Failure(
        False,
        "Redis cannot store this text. Let the channel use sender ids of printable "
        "characters.",
    ),
}


class _Script:
    """A script that the server keeps by its SHA-1."""

    def __init__(self, name: str, *, with_common: bool = True) -> None:
        files = (["common.lua"] if with_common else []) + [name]
        self.text = b"\n".join(
            pkgutil.get_data(__package__, file) or b"" for file in files
        )
        self.sha1 = _sha1(self.text)


def _sha1(text: bytes) -> str:
    return hashlib.sha1(text).hexdigest()  # noqa: S324 - it is how Redis names scripts


_READ = _Script("read.lua")
_WRITE = _Script("write.lua")
_TAKE_OVER = _Script("take_over.lua")
_DELETE = _Script("delete.lua")
_FIND_RASA_1 = _Script("find_rasa_1.lua", with_common=False)


class RedisEventLog(EventLog):
    """Event logs in Redis lists, one key a conversation.

    A script is one step in the server: no other command comes in between. What Rasa's
    own store has left is appended to the log by the first call that comes across it;
    so that events are never re-coded by Lua's JSON, which knows no integers, this
    happens here, and the script checks that nothing has changed meanwhile.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        namespace: Namespace,
        *,
        name: str,
        record_exp: Optional[float] = None,
    ) -> None:
        """Keep logs at a server.

        Args:
            connect: Makes a client.
            namespace: What the keys are called.
            name: How messages name the server.
            record_exp: Seconds after its last append that a conversation expires.
        """
        self.name = name
        self._connect = connect
        self._client: Optional[Client] = None
        self._connecting = threading.Lock()
        self._namespace = namespace
        self._expiry: object = ""
        if record_exp is not None:
            self._expiry = max(1, int(min(record_exp * 1000, _LONGEST_EXPIRY)))

    # Setting up

    def open(self) -> None:
        # Any conversation shows whether the user may run scripts on such keys.
        self.read_back("", limit=1)
        for node in self._nodes():
            try:
                info = node.info()
            except redis.ResponseError:  # INFO is not needed, and often forbidden
                return
            if info.get("role") == "slave":
                raise redis.ReadOnlyError("the server is a replica")
            self._warn_of_eviction(info)
            return

    def _warn_of_eviction(self, info: Dict[str, Any]) -> None:
        policy = str(info.get("maxmemory_policy", ""))
        if info.get("maxmemory") and (
            policy.startswith("allkeys")
            or (policy.startswith("volatile") and self._expiry)
        ):
            logger.warning(
                "%s deletes conversations when its memory is full, because its "
                "maxmemory-policy is %s. Set it to noeviction.",
                self.name,
                policy,
            )

    # The log

    def append(
        self, sender_id: str, entries: Sequence[Entry], after: int
    ) -> Optional[int]:
        return self._write("append", sender_id, entries, after)

    def replace(
        self, sender_id: str, entries: Sequence[Entry], after: int
    ) -> Optional[int]:
        return self._write("replace", sender_id, entries, after)

    def _write(
        self, how: str, sender_id: str, entries: Sequence[Entry], after: int
    ) -> Optional[int]:
        data = [entry.data for entry in entries]
        position: Optional[int] = self._run_on_all_of_it(
            _WRITE, self._namespace.of(sender_id), how, after, self._expiry, *data
        )
        return position

    def read_back(
        self, sender_id: str, limit: Optional[int] = None, before: Optional[int] = None
    ) -> Page:
        return _page(
            self._run_on_all_of_it(
                _READ,
                self._namespace.of(sender_id),
                "" if limit is None else limit,
                "" if before is None else before,
                # Of a whole log the script would hold a copy.
                "" if limit is None else "text",
            )
        )

    def delete(self, sender_id: str) -> bool:
        keys = self._namespace.of(sender_id)
        known = erasable = ""
        while True:
            reply = self._run(_DELETE, keys, known, erasable)
            if not isinstance(reply, list):
                return bool(reply)
            key, text = reply
            known += _sha1(text)
            # What cannot be read at Rasa's key is this conversation's too.
            damaged = key == keys.rasas and _dialogue(text) is None
            if damaged or _events(text, keys) is not None:
                erasable += _sha1(text)

    # What Rasa's own store has left

    def _run_on_all_of_it(self, script: _Script, keys: Keys, *arguments: object) -> Any:
        """Run a script on a log, after all that Rasa's own store has left is in it."""
        known = ""
        while True:
            reply = self._run(script, keys, known, *arguments)
            if not (isinstance(reply, list) and isinstance(reply[0], bytes)):
                return reply
            key, text = reply
            events = _events(text, keys)
            if events is not None:
                self._take_over(keys, known, key, text, events)
                continue
            # Only for this call: it may be replaced by a conversation any time.
            known += _sha1(text)
            if key == keys.rasas and _dialogue(text) is None:
                logger.warning(
                    "%s: what Rasa's own store kept of conversation %r is damaged and "
                    "was skipped. It stays stored: restore the key %r from a backup, "
                    "or delete it.",
                    self.name,
                    keys.sender_id,
                    key.decode(errors="replace"),
                )

    def _take_over(
        self, keys: Keys, known: str, key: bytes, text: bytes, events: List[str]
    ) -> None:
        """Move Rasa's events into the log, unless another worker does it first."""
        sha1 = _sha1(text)
        # There is a log already where a worker with Rasa's own store was still at it.
        reply = self._run(_READ, keys, known + sha1, "", "", "")
        if isinstance(reply, list) and isinstance(reply[0], bytes):
            return  # it has changed: the caller looks again
        log = _page(reply).events
        after = log[-1].position if log else START
        known_texts = [event.data for event in log]
        places = new_events(known_texts, events, complete=True)
        new = [events[place] for place in places]
        self._run(_TAKE_OVER, keys, "", key, sha1, after, *new)

    # All conversations

    def sender_ids(self) -> Iterator[str]:
        # SCAN may name a key twice, and a conversation may have two keys.
        seen: Set[str] = set()
        for sender_id in self._sender_ids():
            if sender_id not in seen:
                seen.add(sender_id)
                yield sender_id

    def _sender_ids(self) -> Iterator[str]:
        maybe_rasa_1s: List[str] = []
        for key in self._scanned():
            sender_id = self._namespace.sender_of_log(key)
            if sender_id is not None:
                yield sender_id
                continue
            sender_id = self._namespace.sender_of_rasas(key)
            if sender_id is not None:
                if not is_ambiguous(key) or self._is_at(key, sender_id):
                    yield sender_id
                continue
            sender_id = self._namespace.sender_of_rasa_1s(key)
            if sender_id is not None:
                maybe_rasa_1s.append(sender_id)
        for begin in range(0, len(maybe_rasa_1s), _SCAN_COUNT):
            yield from self._rasa_1s(maybe_rasa_1s[begin : begin + _SCAN_COUNT])

    def _scanned(self) -> Iterator[bytes]:
        for node in self._nodes():
            for pattern in self._namespace.patterns():
                yield from node.scan_iter(match=pattern, count=_SCAN_COUNT)

    def _is_at(self, key: bytes, sender_id: str) -> bool:
        try:
            text = self._execute("GET", key)
        except redis.ResponseError as error:
            if "WRONGTYPE" in str(error):
                return False
            raise
        keys = self._namespace.of(sender_id)
        return text is not None and _events(text, keys) is not None

    def _rasa_1s(self, sender_ids: List[str]) -> List[str]:
        """Those sender ids that are keys of conversations of Rasa 1."""
        pairs: List[object] = []
        for sender_id in sender_ids:
            pairs += [sender_id, f'"name": {json.dumps(sender_id)}}}']
        return [
            sender_ids[number] for number in self._evaluate(_FIND_RASA_1, 0, *pairs)
        ]

    # The server

    def _run(self, script: _Script, keys: Keys, known: str, *arguments: object) -> Any:
        parameters = (keys.rasa_1s, known, *arguments)
        try:
            return self._evaluate(script, 2, keys.log, keys.rasas, *parameters)
        except ClusterError as error:
            # The slot is moving to another node. Until it has moved, the server takes
            # no command with two keys of which one is not there, as Rasa's mostly.
            if type(error) is not ClusterError or script not in (_READ, _WRITE):
                raise
            return self._evaluate(script, 1, keys.log, *parameters)

    def _evaluate(self, script: _Script, *parameters: object) -> Any:
        try:
            return self._execute("EVALSHA", script.sha1, *parameters)
        except NoScriptError:
            # The server was started anew, or another one; it was not carried out.
            return self._execute("EVAL", script.text, *parameters)

    def _execute(self, *command: Any) -> Any:
        client = self._connected()
        try:
            return client.execute_command(*command)
        except NoScriptError:
            raise
        except (redis.RedisError, RedisClusterException, OSError) as error:
            self._start_anew(client, error)
            raise

    def _connected(self) -> Client:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _start_anew(self, client: Client, error: Exception) -> None:
        """After a passing failure, find out anew where the server is."""
        failure = self.classify(error)
        if failure is None or not failure.transient:
            return
        if isinstance(client, RedisCluster):
            # redis-py 4.6 strikes a node that fails off its list, the last one too.
            with self._connecting:
                if self._client is client:
                    self._client = None
        else:
            # A server that is no master any more keeps its connections open.
            disconnect(client, in_use=False)

    def _nodes(self) -> Iterator[redis.Redis[bytes]]:
        """Clients of all masters."""
        client = self._connected()
        if not isinstance(client, RedisCluster):
            yield client
            return
        for node in client.get_primaries():
            yield client.get_redis_connection(node)

    def classify(self, error: Exception) -> Optional[Failure]:
        driver_errors = (
            redis.RedisError,
            RedisClusterException,
            OSError,
            UnicodeEncodeError,
        )
        if not isinstance(error, driver_errors):
            return None
        described = _described(error)
        for pattern, failure in FAILURES.items():
            if re.search(pattern, described):
                return failure
        return _REACHABLE if isinstance(error, OSError) else Failure(False)

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                disconnect(self._client)


def _page(reply: Any) -> Page:
    if reply is None:
        return Page([], complete=True)
    position, index, events = reply
    # What is damaged is skipped, and reported, where events are decoded.
    if isinstance(events, bytes):
        texts = str(events, "utf-8", "replace").split("\n")
    else:
        texts = [str(event, "utf-8", "replace") for event in events]
    stored = list(map(Stored, range(position, position + len(texts)), texts))
    return Page(stored, complete=index == 1)


def _dialogue(text: bytes) -> Optional[Dict[str, Any]]:
    """``Dialogue.as_dict()`` of a text; ``None`` for what is none."""
    try:
        dialogue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_one = (
        isinstance(dialogue, dict)
        and isinstance(dialogue.get("name"), str)
        and isinstance(dialogue.get("events"), list)
    )
    return dialogue if is_one else None


def _events(text: bytes, keys: Keys) -> Optional[List[str]]:
    """The events that Rasa's own store has left of a conversation.

    ``None`` for what is another's: that of a store with another prefix, whose key reads
    the same, or not Rasa's at all.
    """
    dialogue = _dialogue(text)
    # Rasa Pro knows a conversation by both names.
    names = (keys.sender_id, keys.rasas.decode())
    if dialogue is None or dialogue["name"] not in names:
        return None
    return [json.dumps(event) for event in dialogue["events"]]


def _described(error: BaseException) -> str:
    """The names of an error's classes and its text, with those of its causes."""
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    cause = error.__cause__
    return f"{names} {error} {_described(cause) if cause is not None else ''}"
