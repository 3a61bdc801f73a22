"""Event logs in Redis lists."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import pkgutil
import re
import threading
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

import redis
from redis.cluster import RedisCluster
from redis.exceptions import ClusterError, NoScriptError, RedisClusterException

from rasa_trackers.event_log import (
    START,
    Answered,
    Conversation,
    Entry,
    EventLog,
    Failure,
    Page,
    Stored,
    User,
    began,
    timestamp_of,
    unheard,
)
from rasa_trackers.reconciliation import new_events
from rasa_trackers.redis.connection import Client, disconnect
from rasa_trackers.redis.keys import (
    Keys,
    Namespace,
    is_ambiguous,
    is_storable,
    text_of,
)

logger = logging.getLogger(__name__)

#: Keys that one SCAN looks at: some 0.1 ms of the server's time.
_SCAN_COUNT = 1000
#: Conversations that one message asks about, and events that one answer holds, unless
#: it is those of one conversation.
_BATCH = 500
_MOST_EVENTS = 10_000
#: Bytes of what Rasa's own store left that one answer holds, unless it is one text.
_MOST_BYTES = 10_000_000

#: Seconds after which a reader takes an index entry that leads nowhere for left over:
#: the writer that made it may not have come to its append yet.
_GRACE = 3600.0
#: Milliseconds that an index is kept beyond what its conversations need. While they
#: last, appends need not renew it.
_INDEX_RESERVE = 3_600_000

#: How often a call begins again because others have changed the conversation.
_MOST_ROUNDS = 100

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
    r"Certificate Requirements Flag": Failure(
        False,
        "Let 'ssl_cert_reqs' in the option 'url' be required, optional or none.",
    ),
    r"'idna' codec": Failure(
        False,
        "This is no name of a host: correct 'url' or 'endpoints' of the tracker store "
        "in endpoints.yml.",
    ),
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
_NOTE = _Script("note.lua", with_common=False)
_LOOK_UP = _Script("look_up.lua", with_common=False)
_FORGET = _Script("forget.lua", with_common=False)

#: With this a script's answer begins that says what is to be done first.
_PREPARE = -1

T = TypeVar("T")


class _Indexed(NamedTuple):
    """An entry in the index of a user."""

    user_id: str
    #: ``None`` for an entry that is not there.
    score: Optional[bytes]
    #: Until when the index is kept, in milliseconds since the epoch, or ``null``.
    kept: bytes = b""


class _Head(NamedTuple):
    """What a log says of itself."""

    owner: Optional[User]
    #: How many elements the list has.
    length: int
    #: Whether there is something at the key of Rasa's own store.
    has_rasas: bool


class RedisEventLog(EventLog):
    """Event logs in Redis lists, one key a conversation.

    A script is one step in the server: no other command comes in between. What Rasa's
    own store has left is appended to the log by the first call that comes across it;
    so that events are never re-coded by Lua's JSON, which knows no integers, this
    happens here, and the script checks that nothing has changed meanwhile.

    Whose conversation it is stands in the log itself. An index for each user names the
    conversations that may be that user's; what it says is looked up in the logs. A
    conversation is noted there before it gets its user, and afterwards again: if it was
    erased in between, then the entry was too.
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
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        return self._write("append", sender_id, entries, after, user)

    def replace(
        self,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User] = None,
    ) -> Optional[int]:
        return self._write("replace", sender_id, entries, after, user)

    def _write(
        self,
        how: str,
        sender_id: str,
        entries: Sequence[Entry],
        after: int,
        user: Optional[User],
    ) -> Optional[int]:
        data = [entry.data for entry in entries]
        whose = ("", "") if user is None else tuple(map(json.dumps, user))
        noted: Optional[_Indexed] = None
        left: Optional[_Indexed] = None
        if user is not None and after == START and entries:
            # The script would ask for it.
            noted = self._note(user.user_id, sender_id, self._expiry)
        for _ in range(_MOST_ROUNDS):
            reply = self._run_on_all_of_it(
                _WRITE,
                self._namespace.of(sender_id),
                *(how, after, self._expiry, *whose),
                *(("", "") if noted is None else (json.dumps(noted[0]), noted.kept)),
                "" if left is None else json.dumps(left.user_id),
                *data,
            )
            if not isinstance(reply, list) or reply[0] != _PREPARE:
                break
            _, to_note, to_forget = reply
            if to_note:
                noted = self._note(json.loads(to_note), sender_id, self._expiry)
            if to_forget:
                left = self._look_up(json.loads(to_forget), sender_id)
        else:
            raise _never_came_first(sender_id)
        is_new = isinstance(reply, list)
        position: Optional[int] = reply[0] if is_new else reply
        if is_new and noted is not None:
            self._note(noted.user_id, sender_id, self._expiry)
        if left is not None and position is not None:
            self._forget(left, sender_id)
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
        known = erasable = owner = ""
        left: List[_Indexed] = []
        for _ in range(_MOST_ROUNDS):
            reply = self._run(_DELETE, keys, known, erasable, owner)
            if not isinstance(reply, list):
                for entry in left:
                    self._forget(entry, sender_id)
                return bool(reply)
            if reply[0] == _PREPARE:
                owner = reply[1]
                left.append(self._look_up(json.loads(owner), sender_id))
                continue
            key, text = reply
            known += _sha1(text)
            # What cannot be read at Rasa's key is this conversation's too.
            damaged = key == keys.rasas and _dialogue(text) is None
            if damaged or _events(text, keys) is not None:
                erasable += _sha1(text)
                user = _user(text)
                if user is not None:
                    left.append(self._look_up(user.user_id, sender_id))
        raise _never_came_first(sender_id)

    # What Rasa's own store has left

    def _run_on_all_of_it(self, script: _Script, keys: Keys, *arguments: object) -> Any:
        """Run a script on a log, after all that Rasa's own store has left is in it."""
        known = ""
        for _ in range(_MOST_ROUNDS):
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
        raise _never_came_first(keys.sender_id)

    def _take_over(
        self, keys: Keys, known: str, key: bytes, text: bytes, events: List[str]
    ) -> None:
        """Move Rasa's events into the log, unless another worker does it first."""
        sha1 = _sha1(text)
        # There is a log already where a worker with Rasa's own store was still at it.
        skip = known + sha1
        for _ in range(_MOST_ROUNDS):
            reply = self._run(_READ, keys, skip, "", "", "")
            if not (isinstance(reply, list) and isinstance(reply[0], bytes)):
                break
            if reply[0] == key:
                return  # it has changed: the caller looks again
            skip += _sha1(reply[1])  # what is at the other key comes after this
        else:
            raise _never_came_first(keys.sender_id)
        log = _page(reply)
        after = log.events[-1].position if log.events else START
        known_texts = [event.data for event in log.events]
        places = new_events(known_texts, events, complete=True)
        new = [events[place] for place in places]
        user = _user(text)
        if log.user_id is not None:
            user = User(log.user_id, None)
        whose: Tuple[object, ...] = ("", "", "")
        if user is not None:
            lives = self._execute_all([("PTTL", keys.log), ("PTTL", key)])
            expiry = "" if -1 in lives else max(0, *lives)
            noted = self._note(user.user_id, keys.sender_id, expiry)
            whose = (*map(json.dumps, user), noted.kept)
        self._run(_TAKE_OVER, keys, "", key, sha1, after, *whose, *new)
        if user is not None:
            self._note(user.user_id, keys.sender_id, expiry)

    # Users

    def _note(self, user_id: str, sender_id: str, expiry: object) -> _Indexed:
        """Note in a user's index that a conversation may be that user's.

        Args:
            user_id: The user.
            sender_id: The conversation.
            expiry: Milliseconds after which the conversation expires; "" for never.
        """
        kept = "" if expiry == "" else int(str(expiry)) + _INDEX_RESERVE
        score, until = self._run_on_index(_NOTE, user_id, sender_id, kept)
        return _Indexed(user_id, score, until)

    def _look_up(self, user_id: str, sender_id: str) -> _Indexed:
        return _Indexed(user_id, self._run_on_index(_LOOK_UP, user_id, sender_id))

    def _forget(self, entry: _Indexed, sender_id: str) -> None:
        """Remove an entry from a user's index, unless it was noted again."""
        if entry.score is not None:
            index = self._namespace.of_user(entry.user_id).own
            self._evaluate(_FORGET, 1, index, "", sender_id, entry.score)

    def _run_on_index(self, script: _Script, user_id: str, *arguments: object) -> Any:
        keys = self._namespace.of_user(user_id)
        try:
            return self._evaluate(script, 2, keys.own, keys.rasas, *arguments)
        except ClusterError as error:
            if type(error) is not ClusterError:  # as in _run()
                raise
            return self._evaluate(script, 1, keys.own, *arguments)

    def conversations_of(
        self, user_id: str, limit: Optional[int] = None, skip: int = 0
    ) -> List[Conversation]:
        found = self._found(user_id)
        found.sort(key=lambda pair: began(pair[0]))
        chosen: List[Conversation] = []
        conversations = [conversation for conversation, _ in found]
        lengths = [length for _, length in found]
        for batch in _batches(conversations[skip:], lengths[skip:], _MOST_EVENTS):
            wanted = len(batch) if limit is None else limit - len(chosen)
            if wanted <= 0:
                break
            chosen += self._whole(user_id, batch[:wanted])
        return chosen

    def _found(self, user_id: str) -> List[Tuple[Conversation, int]]:
        """A user's conversations, without events yet, with their lists' lengths."""
        keys = self._namespace.of_user(user_id)
        replies = self._execute_all(
            [("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys]
        )
        # Of each index, the scores by sender ids.
        indexes = [
            dict(zip(reply[::2], reply[1::2])) if reply else {} for reply in replies
        ]
        names = {name: text_of(name) for index in indexes for name in index}
        heads = self._heads([each for each in names.values() if each is not None])
        found = []
        for name, sender_id in names.items():
            if sender_id is None:
                continue
            owner, length, _ = heads[sender_id]
            if owner is not None and owner.user_id == user_id:
                for index in indexes:
                    index.pop(name, None)
                empty = Conversation(sender_id, owner.conversation_started, [])
                found.append((empty, length))
        for key, left_over in zip(keys, indexes):
            for batch in _batches(left_over.items()):
                pairs = [value for pair in batch for value in pair]
                self._evaluate(_FORGET, 1, key, _GRACE, *pairs)
        return found

    def _heads(self, sender_ids: List[str]) -> Dict[str, _Head]:
        """What logs say of themselves, after all that Rasa has left is in them."""
        heads: Dict[str, _Head] = {}
        for batch in _batches(sender_ids):
            heads.update(self._heads_as_they_are(batch))
        left = [sender_id for sender_id, head in heads.items() if head.has_rasas]
        for sender_id in left:
            self.read_back(sender_id, limit=1)
        for batch in _batches(left):
            heads.update(self._heads_as_they_are(batch))
        return heads

    def _heads_as_they_are(self, sender_ids: List[str]) -> Dict[str, _Head]:
        commands: List[Tuple[object, ...]] = []
        for keys in map(self._namespace.of, sender_ids):
            commands += [
                ("LINDEX", keys.log, 0),
                ("LLEN", keys.log),
                ("EXISTS", keys.rasas),
            ]
        replies = self._execute_all(commands)
        return {
            sender_id: _Head(_owner(header), length or 0, bool(exists))
            for sender_id, header, length, exists in zip(
                sender_ids, replies[::3], replies[1::3], replies[2::3]
            )
        }

    def _whole(
        self, user_id: str, conversations: List[Conversation]
    ) -> Iterator[Conversation]:
        """Conversations with their events, if they are that user's still."""
        logs = [self._namespace.of(one.sender_id).log for one in conversations]
        replies = self._execute_all([("LRANGE", log, 0, -1) for log in logs])
        for (sender_id, _, _), reply in zip(conversations, replies):
            owner = _owner(reply[0]) if reply else None
            if owner is not None and owner.user_id == user_id:
                events = [str(event, "utf-8", "replace") for event in reply[1:]]
                yield Conversation(sender_id, owner.conversation_started, events)

    # All conversations

    def sender_ids(self, answered: Answered = unheard) -> Iterator[str]:
        # SCAN may name a key twice, and a conversation may have two keys.
        seen: Set[str] = set()
        for sender_id in self._sender_ids(answered):
            if sender_id not in seen:
                seen.add(sender_id)
                yield sender_id

    def _sender_ids(self, answered: Answered) -> Iterator[str]:
        maybe_rasa_1s: List[str] = []
        for key in self._scanned(answered):
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
            answered()

    def _scanned(self, answered: Answered) -> Iterator[bytes]:
        for node in self._nodes():
            for pattern in self._namespace.patterns():
                cursor: Optional[int] = None
                while cursor != 0:
                    cursor, keys = node.scan(cursor or 0, pattern, _SCAN_COUNT)
                    answered()
                    yield from keys

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

    def count_conversations(
        self, after_timestamp: float, answered: Answered = unheard
    ) -> int:
        count = 0
        for batch in _batches(self.sender_ids(answered)):
            newest = self._newest_timestamps(batch)
            answered()
            count += sum(timestamp >= after_timestamp for timestamp in newest)
        return count

    def _newest_timestamps(self, sender_ids: List[str]) -> List[float]:
        """When the last event of each conversation was."""
        all_keys = [self._namespace.of(sender_id) for sender_id in sender_ids]
        events = self._execute_all([("LINDEX", keys.log, -1) for keys in all_keys])
        newest = {
            keys: timestamp_of(str(event, "utf-8", "replace")) if event else -math.inf
            for keys, event in zip(all_keys, events)
        }
        # What Rasa's own store left is not taken over for this.
        left = self._with_sizes([(keys, keys.rasas) for keys in all_keys])
        there = {keys for keys, event in zip(all_keys, events) if event}
        there.update(keys for (keys, _), _ in left)
        # Others than what turned out to be Rasa 1's need not be allowed to be read.
        left += self._with_sizes(
            [
                (keys, keys.rasa_1s)
                for keys in all_keys
                if keys.rasa_1s and keys not in there
            ]
        )
        places, sizes = [place for place, _ in left], [size for _, size in left]
        for batch in _batches(places, sizes, _MOST_BYTES):
            texts = self._execute_all([("GET", key) for _, key in batch])
            for (keys, _), text in zip(batch, texts):
                rasas = _events(text, keys) if text else None
                if rasas:
                    newest[keys] = max(newest[keys], timestamp_of(rasas[-1]))
        return list(newest.values())

    def _with_sizes(
        self, places: List[Tuple[Keys, bytes]]
    ) -> List[Tuple[Tuple[Keys, bytes], int]]:
        """Those keys at which there is text, each with its length in bytes."""
        sizes = self._execute_all([("STRLEN", key) for _, key in places])
        return [(place, size) for place, size in zip(places, sizes) if size]

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

    def _execute_all(self, commands: Sequence[Tuple[object, ...]]) -> List[Any]:
        """Execute commands of one key each, with one message a node.

        They may be carried out in any order. ``None`` is the answer for a key that
        holds something else than the command is for.
        """
        client = self._connected()
        replies: List[Any] = [None] * len(commands)
        try:
            for node, places in _by_node(client, commands):
                pipeline = node.pipeline(transaction=False)
                for place in places:
                    pipeline.execute_command(*commands[place])
                answers = pipeline.execute(raise_on_error=False)
                for place, answer in zip(places, answers):
                    replies[place] = answer
        except (redis.RedisError, RedisClusterException, OSError) as error:
            self._start_anew(client, error)
            raise
        for place, reply in enumerate(replies):
            if not isinstance(reply, Exception):
                continue
            replies[place] = None
            if "WRONGTYPE" in str(reply):
                continue
            if not isinstance(client, RedisCluster):
                self._start_anew(client, reply)
                raise reply
            # The slot has moved, or moves: the cluster's client finds it.
            replies[place] = self._execute(*commands[place])
        return replies

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
            UnicodeError,  # also of a host's name
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


def _never_came_first(sender_id: str) -> redis.ConnectionError:
    return redis.ConnectionError(
        f"others have changed conversation {sender_id!r} {_MOST_ROUNDS} times meanwhile"
    )


def _page(reply: Any) -> Page:
    if reply is None:
        return Page([], complete=True)
    position, index, events, header = reply
    # What is damaged is skipped, and reported, where events are decoded.
    if isinstance(events, bytes):
        texts = str(events, "utf-8", "replace").split("\n")
    else:
        texts = [str(event, "utf-8", "replace") for event in events]
    stored = list(map(Stored, range(position, position + len(texts)), texts))
    owner = _owner(header)
    return Page(stored, index == 1, owner and owner.user_id)


def _owner(header: Optional[bytes]) -> Optional[User]:
    """Whose conversation it is, by the first element of its list."""
    _, _, described = (header or b"").partition(b" ")
    if not described:
        return None
    try:
        owner = json.loads(described)
        return User(owner["user_id"], owner["conversation_started"])
    except (LookupError, TypeError, ValueError):  # not written by us
        return None


def _user(text: bytes) -> Optional[User]:
    """Whose conversation Rasa Pro's own store has left."""
    dialogue = _dialogue(text) or {}
    user_id = dialogue.get("user_id")
    started = dialogue.get("conversation_started_timestamp")
    if not (user_id and isinstance(user_id, str)) or not is_storable(user_id):
        return None
    return User(user_id, started if type(started) in (int, float) else None)


def _by_node(
    client: Client, commands: Sequence[Tuple[object, ...]]
) -> List[Tuple[redis.Redis[bytes], List[int]]]:
    """Clients of the nodes, each with the numbers of the commands that go there.

    Not by the pipelines of redis-py's cluster client: they send what a node did not
    answer again, one by one, each with a time limit of its own.
    """
    if not isinstance(client, RedisCluster):
        return [(client, list(range(len(commands))))]
    nodes: Dict[str, Tuple[redis.Redis[bytes], List[int]]] = {}
    for place, (_, key, *_) in enumerate(commands):
        node = client.get_node_from_key(key)
        if node.name not in nodes:
            nodes[node.name] = (client.get_redis_connection(node), [])
        nodes[node.name][1].append(place)
    return list(nodes.values())


def _batches(
    items: Iterable[T], sizes: Optional[Iterable[int]] = None, most: int = 0
) -> Iterator[List[T]]:
    """Lists of some items each, which together are not larger than ``most``."""
    batch: List[T] = []
    total = 0
    for item, size in zip(items, itertools.repeat(0) if sizes is None else sizes):
        if batch and (len(batch) == _BATCH or total + size > most):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


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
