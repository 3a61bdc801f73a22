"""Anything at all: payloads, sender ids, options, and data that was damaged."""

from __future__ import annotations

import copy
import itertools
import json
import math
import unicodedata

import pytest
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import BotUttered, Event, SlotSet, UserUttered
from rasa.shared.exceptions import ConnectionException, RasaException

import rasa_trackers
from conversations import add, as_dicts, dicts, session_start, tracker, turn
from rasa_api import backend_log
from rasa_trackers import store_options
from rasa_trackers.backend import backend_of
from rasa_trackers.event_log import Entry, User
from rasa_trackers.rasa_versions import KNOWS_USERS
from rasa_trackers.sql.schema import tables
from servers.silent import closed_port

#: One of each kind of database.
on_each_database = pytest.mark.parametrize(
    "backend",
    ["memory", "sqlite", "postgresql", "mariadb", "oracle", "redis", "mongo"],
    indirect=True,
)
fuzzed = settings(max_examples=25, suppress_health_check=list(HealthCheck))
_numbers = itertools.count()

#: What has a meaning in SQL, Redis' patterns and scripts, MongoDB, JSON, Python.
odd_characters = st.sampled_from("\0'\";-$.%*?[]{}\\/:\n\ud800\udfff\u2028ßİ😀 ")
#: Not st.text(), which seldom takes the odd ones of such an alphabet.
texts = st.lists(odd_characters | st.characters(), max_size=8).map("".join)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, -(2**200), 10**400, 1e308, -0.0])
    | st.floats()
    | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=3)


def as_text(events):
    """Events as JSON, in which a NaN equals itself."""
    return [json.dumps(event, sort_keys=True) for event in events]


def new_id():
    return f"conversation-{next(_numbers)}"


# Payloads


@on_each_database
@fuzzed
@given(texts, json_values, objects, objects)
async def test_payload_of_any_json_comes_back_equal(store, text, value, data, metadata):
    events = [
        *session_start(),
        UserUttered(text, parse_data={"intent": {"name": text}, "more": value}),
        SlotSet("anything", value, metadata=metadata),
        BotUttered(text, data=data, metadata=metadata),
    ]
    sender_id = new_id()
    await store.save(tracker(sender_id, events))
    retrieved = await store.retrieve(sender_id)
    assert as_text(as_dicts(retrieved)) == as_text(dicts(events))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("depth", [*range(300, 1000, 50), *range(960, 1000, 4), 10**5])
async def test_deep_nesting_comes_back_or_is_refused(store, depth):
    """Python's own JSON ends at some depth, which is another one for each way."""
    value = []
    for _ in range(depth):
        value = [value]
    events = [*session_start(), SlotSet("anything", value)]
    try:
        await store.save(tracker(new_id(), events))
    except RasaException as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "not JSON" in refused
        assert not list(await store.keys())
        return
    (sender_id,) = await store.keys()
    assert len((await store.retrieve(sender_id)).events) == len(events)


@on_each_database
@fuzzed
@given(
    st.sampled_from([event.as_dict() for event in [*session_start(), *turn()]]),
    st.dictionaries(
        st.sampled_from(
            ["timestamp", "name", "text", "value", "parse_data", "metadata", "policy"]
        ),
        json_values,
        min_size=1,
        max_size=3,
    ),
)
async def test_event_of_any_shape_costs_no_other_event(store, parameters, changes):
    """As a caller of Rasa's HTTP API may send it."""
    sender_id = new_id()
    before, after = session_start(), turn()
    kept = tracker(sender_id, before)
    await store.save(kept)
    try:
        odd = Event.from_parameters({**parameters, **changes})
        assume(odd is not None)
        kept.update(odd)
        expected = json.dumps(odd.as_dict(), sort_keys=True)
    except Exception:  # noqa: BLE001 - what Rasa does not take is not ours
        assume(False)
    stored = [expected]
    await store.save(kept)
    add(kept, after)
    await store.save(kept)
    texts = [event.data for event in backend_log(store).read_back(sender_id).events]
    assert [json.dumps(json.loads(text), sort_keys=True) for text in texts] == [
        *as_text(dicts(before)),
        *stored,
        *as_text(dicts(after)),
    ]
    loaded = await store.retrieve_full_tracker(sender_id)
    assert as_text(as_dicts(loaded)) in (
        as_text(dicts(before)) + stored + as_text(dicts(after)),
        # One that Rasa cannot make of its own text again.
        as_text(dicts(before + after)),
    )


# Sender ids

#: Names that databases, file systems and people take for the same.
_ALIKE = [
    str.upper,
    lambda text: text + " ",
    lambda text: text + "\0",
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: text[:-1],
]


@on_each_database
@fuzzed
@given(texts, st.sampled_from(_ALIKE))
@example("'; DROP TABLE events; --", str.upper)
@example('{"$gt": ""}', str.upper)
@example("*", lambda text: text + "*")
@example("Å", lambda text: "A\u030a")
async def test_conversations_of_any_name_are_apart(store, sender_id, alike):
    names = {sender_id, alike(sender_id)}
    events = {}
    for name in names:
        old = await _unless_refused(store.retrieve(name))
        events[name] = as_dicts(old) if old is not None else []
    for name in names:
        new = tracker(name, turn(name))
        try:
            await store.save(new)
        except RasaException:
            assert not events[name]
        else:
            events[name] += as_dicts(new)
    for name, expected in events.items():
        full = await _unless_refused(store.retrieve_full_tracker(name))
        assert (as_dicts(full) if full is not None else []) == expected
        assert (name in await store.keys()) == bool(expected)


async def _unless_refused(call):
    try:
        return await call
    except RasaException:
        return None


# Options

STORES = [
    "InMemoryTrackerStore",
    "MongoTrackerStore",
    "OracleTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
]
urls = st.sampled_from(
    [
        "",
        ":",
        "://",
        "@",
        "localhost:abc",
        "[::1",
        "127.0.0.1:1:2",
        "a:b@c:d@127.0.0.1",
        "unix://",
        "unix:///no/such/socket",
        "redis://127.0.0.1:1/x",
        "rediss://127.0.0.1:1?ssl_cert_reqs=perhaps",
        "mongodb://",
        "mongodb://127.0.0.1:1/?timeoutMS=x",
        "mongodb+srv://x",
        "postgresql://127.0.0.1:1/x?connect_timeout=x",
        "sqlite://",
        "oracle://x:y@127.0.0.1:1",
        "(DESCRIPTION=",
        "127.0.0.1\0",
        "127.0.0.1:1\n",
        "\ud800",
        "é.invalid",
        "x" * 300,
    ]
)
dialects = st.sampled_from(
    ["sqlite", "postgresql", "oracle", "mysql", "postgresql+psycopg2", "oracle+x", "é"]
)
#: Longer ones are waited for.
short_times = json_values.filter(
    lambda value: not _is_number(value) or not float(value) > 0.1
)
_STRATEGIES = {
    "url": urls | json_values,
    "host": urls | json_values,
    "dialect": dialects | json_values,
    "db": st.sampled_from(["", ":memory:", "a.b", "$x", "/"]) | json_values,
    "query": objects | json_values,
    "client_options": st.dictionaries(
        st.sampled_from(
            ["w", "tls", "maxPoolSize", "authMechanism", "readConcernLevel"]
        )
        | texts,
        json_values,
        max_size=2,
    )
    | json_values,
    "deployment_mode": st.sampled_from(["cluster", "sentinel"]) | json_values,
    "endpoints": st.lists(urls | json_values, max_size=2) | json_values,
    "timeout": short_times,
    "startup_timeout": short_times,
}


def _is_number(value):
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def option_names(store):
    declared = (*backend_of(store).options, *store_options.COMMON)
    return {"host", *(option.name for option in declared)}


@st.composite
def options_of(draw, store):
    known = sorted(option_names(store))
    names = draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    options = {name: draw(_STRATEGIES.get(name, json_values)) for name in names}
    if draw(st.integers(0, 9)) == 0:
        options[draw(texts)] = draw(json_values)
    return options


@pytest.mark.parametrize("name", STORES)
@settings(parent=fuzzed, max_examples=50)
@given(data=st.data())
def test_options_of_any_type_give_a_store_or_an_error(
    tmp_path, monkeypatch, name, data
):
    monkeypatch.chdir(tmp_path)
    store_class = getattr(rasa_trackers, name)
    options = data.draw(options_of(name))
    with closed_port() as port:
        base = {"timeout": 0.05, "startup_timeout": 0.05}
        if not {"url", "host"} & set(options) and name != "InMemoryTrackerStore":
            base["url"] = f"127.0.0.1:{port}"
        if name == "SQLTrackerStore":
            base["dialect"] = "postgresql"
        given = {**base, **options}
        # As Rasa's loader calls it; there any other error is a store in memory, or a
        # message without a remedy.
        try:
            store = store_class(domain=Domain.empty(), event_broker=None, **given)
        except ConnectionException:
            return
        except RasaException as error:
            refused = str(error)
        else:
            store.close()
            return
    known = {*option_names(name), *given}
    assert any(f"'{option}" in refused for option in known), refused


# Damage

events = st.sampled_from([event.as_dict() for event in [*session_start(), *turn()]])
#: What may stand where an event should: other text, other JSON, and half an event.
damaged_texts = st.one_of(
    texts,
    json_values.map(json.dumps),
    st.builds(
        lambda event, changes: json.dumps({**event, **changes}),
        events,
        st.dictionaries(
            st.sampled_from(["event", "timestamp", "name", "parse_data", "metadata"]),
            json_values,
            min_size=1,
        ),
    ),
    st.builds(
        lambda event, share: json.dumps(event)[: int(share * len(json.dumps(event)))],
        events,
        st.floats(0.1, 0.95),
    ),
)
#: What SQLite's columns hold whatever their type, and Redis' and MongoDB's values.
damaged_values = st.one_of(
    st.binary(max_size=8), st.integers(-(2**63), 2**63 - 1), st.floats(), st.none()
)
#: What BSON can hold.
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abcxyz"), inner, max_size=3)
    ),
    max_leaves=5,
)


class Raw:
    """What is stored of a conversation, past the store."""

    def __init__(self, store, backend):
        self.log = backend_log(store)
        is_sql = backend.name in ("sqlite", "postgresql", "mariadb", "oracle")
        self.kind = "sql" if is_sql else backend.name

    def add(self, sender_id, damage):
        """Put something at its end; `False` where the database does not take it."""
        if self.kind == "redis":
            damage = "" if damage is None else damage
            if isinstance(damage, str):
                damage = damage.encode("utf-8", "surrogatepass")
            self._redis.rpush(self.log.namespace.of(sender_id).log, damage)
        elif self.kind == "mongo":
            if isinstance(damage, str):
                damage = {"data": damage}
            self.log.collection.update_one(
                {"_id": f"open:{sender_id}"},
                {"$push": {"log": damage}, "$inc": {"last": 1}},
            )
        elif isinstance(damage, str):
            (last,) = self.log.read_back(sender_id, limit=1).events[-1:]
            entry = Entry(damage, "x", None, None, None)
            assert self.log.append(sender_id, [entry], last.position)
        else:
            with self.log.engine.begin() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO events (sender_id, type_name, data) VALUES (?, ?, ?)",
                    (sender_id, "x", damage),
                )

    @property
    def _redis(self):
        return self.log.transport.connected().__enter__()

    def all(self, sender_id):
        """All that is stored, in order."""
        if self.kind == "redis":
            key = self.log.namespace.of(sender_id).log
            return self._redis.lrange(key, 1, -1)
        if self.kind == "mongo":
            document = self.log.collection.find_one({"_id": f"open:{sender_id}"})
            return [repr(event) for event in document["log"]]
        with self.log.engine.connect() as connection:
            return connection.execute(
                sa.select(events_table.c.data)
                .where(events_table.c.sender_id == sender_id)
                .order_by(events_table.c.id)
            ).all()


events_table = tables().events


@pytest.fixture
def raw(store, backend):
    return Raw(store, backend)


@pytest.mark.parametrize(
    "backend",
    ["sqlite", "postgresql", "mariadb", "oracle", "redis", "mongo"],
    indirect=True,
)
@settings(parent=fuzzed, max_examples=50)
@given(data=st.data())
async def test_damaged_events_cost_no_other_event(store, backend, raw, caplog, data):
    takes_anything = backend.name in ("sqlite", "redis", "mongo")
    damage = damaged_texts | damaged_values if takes_anything else damaged_texts
    if backend.name == "mongo":
        damage |= documents
    if backend.name in ("redis", "mongo"):
        damage = damage.filter(lambda value: not _is_lone(value))
    sender_id = new_id()
    before, after = [*session_start(), *turn()], turn()
    await store.save(tracker(sender_id, before))
    for one in data.draw(st.lists(damage, min_size=1, max_size=3)):
        try:
            raw.add(sender_id, one)
        except (sa.exc.DBAPIError, ValueError, redis.DataError):
            assume(False)  # the database does not take it
    stored = raw.all(sender_id)
    caplog.clear()
    kept = await store.retrieve(sender_id)
    loaded = await store.retrieve_full_tracker(sender_id)
    assert _are_in(before, loaded)
    if len(loaded.events) < len(stored):
        assert "They stay stored" in caplog.text or "stays stored" in caplog.text
    # A deep copy is a tracker of unknown origin: it is compared with what is stored.
    for further in (kept, copy.deepcopy(loaded)):
        add(further, after)
        await store.save(further)
        loaded = await store.retrieve_full_tracker(sender_id)
        assert _are_in(before + after, loaded)
        assert raw.all(sender_id)[: len(stored)] == stored
    assert sender_id in await store.keys()
    assert await store.count_conversations()
    # The second of the two had nothing to add; an event without a sensible time,
    # which gets another one each time that Rasa loads it, may be there again.
    new = as_text(dicts(after))
    assert [text for text in as_text(as_dicts(loaded)) if text in new] == new


def _is_lone(value):
    """Whether it has a lone surrogate, which UTF-8 has not."""
    return isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value)


def _are_in(events, loaded):
    """Whether a tracker has all of some events, in this order."""
    there = iter(as_text(as_dicts(loaded)))
    return all(text in there for text in as_text(dicts(events)))


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
@fuzzed
@given(
    st.binary(max_size=20)
    | damaged_texts.map(lambda text: text.encode("ascii", "replace"))
)
async def test_anything_at_the_key_of_rasas_own_redis_store(store, raw, caplog, damage):
    sender_id = new_id()
    key = f"tracker:{sender_id}"
    raw._redis.set(key, damage)
    caplog.clear()
    assert await store.retrieve(sender_id) is None
    assert key in caplog.text
    events = session_start()
    await store.save(tracker(sender_id, events))
    assert as_dicts(await store.retrieve(sender_id)) == dicts(events)
    assert raw._redis.get(key) == damage


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
@fuzzed
@given(
    st.one_of(
        damaged_texts,
        documents.map(repr),
        st.builds("{} {}".format, st.integers(), json_values.map(json.dumps)),
    ).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
async def test_anything_at_the_head_of_a_redis_list(store, raw, damage):
    sender_id, sound, user_id = new_id(), new_id(), new_id()
    for each in (sender_id, sound):
        await store.save(tracker(each, session_start()))
        last = raw.log.read_back(each, limit=1).events[-1].position
        assert raw.log.append(each, [], last, User(user_id, 1.0))
    raw._redis.lset(raw.log.namespace.of(sender_id).log, 0, damage)
    stored = raw.all(sender_id)
    await _unless_refused(store.retrieve(sender_id))
    await _unless_refused(store.retrieve_full_tracker(sender_id))
    await _unless_refused(store.save(tracker(sender_id, turn())))
    assert raw.all(sender_id)[: len(stored)] == stored
    await _unless_refused(store.exists(sender_id))
    found = await store.get_serialized_trackers_by_user_id(user_id)
    # Rasa Open Source's stores keep no users.
    assert not KNOWS_USERS or sound in [each["sender_id"] for each in found]
    assert {sender_id, sound} <= set(await store.keys())
    assert await store.count_conversations()
    await store.delete(sender_id)
    assert not await store.exists(sender_id)


@pytest.mark.parametrize("backend", ["redis"], indirect=True)
@fuzzed
@given(st.lists(json_values, max_size=3))
async def test_any_events_of_rasas_own_redis_store_are_taken_over(store, raw, odd):
    sender_id = new_id()
    before, after = session_start(), turn()
    dialogue = {"name": sender_id, "events": [*dicts(before), *odd, *dicts(after)]}
    raw._redis.set(f"tracker:{sender_id}", json.dumps(dialogue))
    assert _are_in(before + after, await store.retrieve_full_tracker(sender_id))
    texts = [json.dumps(json.loads(text)) for text in raw.all(sender_id)]
    assert texts == [json.dumps(event) for event in dialogue["events"]]


@pytest.mark.parametrize("backend", ["mongo"], indirect=True)
@fuzzed
@given(
    st.lists(documents, max_size=3),
    st.dictionaries(st.sampled_from(["slots", "paused", "x"]), documents),
)
async def test_any_events_of_rasas_own_mongo_store_are_read(store, raw, odd, more):
    sender_id = new_id()
    before, after, new = session_start(), turn(), turn()
    stored = {**more, "events": [*dicts(before), *odd, *dicts(after)]}
    documents = raw.log.collection
    documents.insert_one({"sender_id": sender_id, **stored})
    rasas = documents.find_one({"sender_id": sender_id})
    full = await store.retrieve_full_tracker(sender_id)
    assert _are_in(before + after, full)
    add(full, new)
    await store.save(full)
    full = await store.retrieve_full_tracker(sender_id)
    assert _are_in(before + after + new, full)
    assert repr(documents.find_one({"_id": rasas["_id"]})) == repr(rasas)


@pytest.mark.parametrize("backend", ["mongo"], indirect=True)
@settings(parent=fuzzed, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(
            ["first", "last", "base", "bytes", "log", "previous", "rasa", "expires_at"]
        ),
        documents | st.lists(documents, max_size=3),
        min_size=1,
        max_size=2,
    )
)
async def test_documents_of_any_shape_are_an_error_at_worst(store, raw, changes):
    sender_id, sound, user_id = new_id(), new_id(), new_id()
    for each in (sender_id, sound):
        await store.save(tracker(each, session_start()))
        last = raw.log.read_back(each, limit=1).events[-1].position
        assert raw.log.append(each, [], last, User(user_id, 1.0))
    which = {"_id": f"open:{sender_id}"}
    changes = {**changes, "unclean": True}  # as if a process had died meanwhile
    raw.log.collection.update_one(which, {"$set": changes})
    raw.log.open()
    damaged = repr(raw.log.collection.find_one(which)["log"])
    await _unless_refused(store.retrieve(sender_id))
    await _unless_refused(store.retrieve_full_tracker(sender_id))
    await _unless_refused(store.save(tracker(sender_id, turn())))
    assert repr(raw.log.collection.find_one(which)["log"]).startswith(damaged[:-1])
    await _unless_refused(store.exists(sender_id))
    found = await _unless_refused(store.get_serialized_trackers_by_user_id(user_id))
    if found is not None and KNOWS_USERS:
        assert sound in [each["sender_id"] for each in found]
    # What concerns all conversations goes on without this one.
    assert sound in await store.keys()
    assert await store.count_conversations()
    await _unless_refused(store.delete(sender_id))
    await store.delete(sound)
    assert not await store.exists(sound)
