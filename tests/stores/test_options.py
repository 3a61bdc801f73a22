"""What an operator can get wrong: always an error that says what to do."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasa.shared.exceptions import ConnectionException, RasaException
from rasa.utils.endpoints import EndpointConfig

import rasa_trackers
from conversations import conversation, tracker
from rasa_api import TrackerStore, backend_log, unwrapped
from rasa_trackers.rasa_versions import KNOWS_USERS

SQL = "rasa_trackers.SQLTrackerStore"


def refused(load, endpoint, *parts):
    """The error of a store that cannot start; ``parts`` must stand in its text."""
    with pytest.raises(RasaException) as raised:
        load(endpoint)
    for part in parts:
        assert part in str(raised.value)
    return raised


# On every store


def test_unknown_option_names_the_nearest_one(load, endpoint):
    refused(
        load,
        {**endpoint, "record_expp": 5},
        "'record_expp'",
        "'record_exp'",
        "endpoints.yml",
    )


def test_unknown_option_that_resembles_none(load, endpoint):
    refused(load, {**endpoint, "xyzzy": 5}, "'xyzzy'", "Known options:", "record_exp")


@pytest.mark.parametrize(
    "value", [0, -1, "soon", float("nan"), float("inf"), [], True, {}]
)
def test_record_exp_that_is_no_time(load, endpoint, value):
    refused(load, {**endpoint, "record_exp": value}, "'record_exp'", "seconds")


@pytest.mark.parametrize("value", ["yes please", 2, []])
def test_flag_that_is_none(load, endpoint, value):
    option = "retrieve_events_from_previous_conversation_sessions"
    refused(load, {**endpoint, option: value}, option, "true or false")


@pytest.mark.parametrize("value", ["3600", 3600, 3600.5])
def test_numbers_may_come_as_text(load, endpoint, value):
    """As they do from environment variables."""
    load({**endpoint, "record_exp": value})


def test_flag_may_come_as_text(load, endpoint):
    load({**endpoint, "retrieve_events_from_previous_conversation_sessions": "true"})


def test_url_and_host_that_differ(endpoint):
    store_class = getattr(rasa_trackers, endpoint["type"].rpartition(".")[2])
    with pytest.raises(RasaException, match="both 'url' and 'host'"):
        store_class(url="one", host="two")


@pytest.mark.parametrize("value", [5, ["localhost"], {"a": 1}])
def test_url_that_is_no_text(endpoint, value):
    store_class = getattr(rasa_trackers, endpoint["type"].rpartition(".")[2])
    with pytest.raises(RasaException, match="must be text"):
        store_class(url=value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
@pytest.mark.parametrize("option", ["url", "host", "username", "password"])
@pytest.mark.parametrize(
    "store", ["SQLTrackerStore", "RedisTrackerStore", "MongoTrackerStore"]
)
def test_text_that_no_server_takes(store, option, value):
    with pytest.raises(RasaException, match=f"'{option}'.*NUL") as raised:
        getattr(rasa_trackers, store)(**{option: value})
    assert value not in str(raised.value)


# The package


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("redistrackerstore", "RedisTrackerStore"),
        ("sql_tracker_store", "SQLTrackerStore"),
        ("SqlTrackerStore", "SQLTrackerStore"),
        ("MemoryTrackerStore", "InMemoryTrackerStore"),
        ("SQLStore", "SQLTrackerStore"),
        ("SQL", "SQLTrackerStore"),
        ("SQLTracker", "SQLTrackerStore"),
        ("SQLTrackerStores", "SQLTrackerStore"),
        ("sql.SqlTrackerStore", "SQLTrackerStore"),
    ],
)
def test_misspelt_store_stops_rasa(load, misspelt, meant):
    """Rasa's loader would take a missing name for a reason to keep all in memory."""
    name = misspelt.rpartition(".")[2]
    refused(load, {"type": f"rasa_trackers.{misspelt}"}, name, f"rasa_trackers.{meant}")


def test_other_missing_names_are_attribute_errors():
    assert not hasattr(rasa_trackers, "something")
    assert not hasattr(rasa_trackers, "__wrapped__")


def test_store_whose_driver_is_not_installed_stops_rasa(load, monkeypatch):
    monkeypatch.setitem(
        rasa_trackers._MODULES, "SQLTrackerStore", "rasa_trackers.not_there"
    )
    refused(load, {"type": SQL}, "cannot be loaded", "Install")


@pytest.mark.parametrize("error", [ImportError, AttributeError, ModuleNotFoundError])
def test_no_constructor_lets_the_errors_out_that_rasa_hides(
    load, endpoint, monkeypatch, error
):
    def fail(*_args, **_kwargs):
        raise error("inside")

    monkeypatch.setattr("rasa_trackers.store_options.checked", fail)
    refused(load, endpoint, "cannot start", "inside")


@pytest.mark.parametrize("option", ["ssl_cert_reqs", "ssl_check_hostname"])
def test_option_that_only_a_url_has(load, option):
    endpoint = {"type": "rasa_trackers.RedisTrackerStore", "url": "127.0.0.1"}
    refused(load, {**endpoint, option: "none"}, f"rediss://host:6379/0?{option}=")


# SQL


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"dialect": "postgressql"}, ["'postgressql'", "Did you mean 'postgresql'"]),
        ({"dialect": "nosuch"}, ["no dialect 'nosuch'", "endpoints.yml"]),
        (
            {"url": "http://db/rasa"},
            ["'url'", "'http://', which is no dialect", "host"],
        ),
        (
            {"dialect": "mysql+mysqldb", "url": "localhost"},
            ["not installed", "pip install mysqlclient"],
        ),
        ({"dialect": "postgresql+nodriver"}, ["postgresql+nodriver"]),
        ({"dialect": 5}, ["'dialect'"]),
        ({"dialect": ""}, ["'dialect'"]),
        ({"dialect": "postgresql", "port": "abc"}, ["'port'", "65535"]),
        ({"dialect": "postgresql", "port": 0}, ["'port'"]),
        ({"dialect": "postgresql", "port": 65536}, ["'port'"]),
        ({"dialect": "postgresql", "port": 1.5}, ["'port'"]),
        ({"dialect": "postgresql", "url": "host:abc"}, ["'url'", "host:port"]),
        ({"dialect": "postgresql", "url": "host:99999"}, ["'url'", "host:port"]),
        ({"dialect": "postgresql", "url": "[::1"}, ["'url'", "host:port"]),
        ({"dialect": "postgresql", "url": "://"}, ["'url'", "dialect://user"]),
        (
            {"dialect": "sqlite", "url": "localhost"},
            ["SQLite is a file", "'url: localhost'"],
        ),
        ({"dialect": "postgresql", "query": "sslmode=require"}, ["'query'", "mapping"]),
        ({"dialect": "postgresql", "username": ["a"]}, ["'username'", "text"]),
        ({"dialect": "postgresql", "password": {"a": 1}}, ["'password'", "text"]),
        (
            {"db": "/no/such/folder/rasa.db"},
            ["/no/such/folder/rasa.db", "folder of the option 'db' exists"],
        ),
        ({"db": "/"}, ["SQLite database '/'", "'db'"]),
        *(
            ({"dialect": "sqlite", "query": {name: "abc"}}, ["does not take", "abc"])
            for name in ("timeout", "cached_statements", "detect_types")
        ),
        ({"query": {"detect_type": 1}}, ["'detect_type'", "'detect_types'"]),
        ({"query": {"mode": "ro"}}, ["'mode'", "SQLite"]),
        ({"query": {"timeout": 5}}, ["'timeout'"]),
        ({"dialect": "oracle", "url": "/var/run/x"}, ["'url'"]),
        ({"dialect": "a+b+c"}, ["dialect 'a+b+c'"]),
        ({"timeout": "never"}, ["'timeout'", "seconds"]),
        ({"startup_timeout": -1}, ["'startup_timeout'", "seconds"]),
    ],
)
def test_sql_options_that_make_no_sense(load, options, parts):
    refused(load, {"type": SQL, "timeout": 2, **options}, *parts)


def test_file_that_is_no_database(load, tmp_path):
    path = tmp_path / "rasa.db"
    path.write_bytes(b"something else, and long enough to look like something" * 100)
    refused(load, {"type": SQL, "db": str(path)}, str(path), "another kind")


@pytest.fixture
def postgresql(postgres_server):
    database = postgres_server.create_database()
    yield {
        "type": SQL,
        "dialect": "postgresql",
        "url": postgres_server.host,
        "port": postgres_server.port,
        "db": database,
        "username": postgres_server.username,
        "password": postgres_server.password,
        "timeout": 5,
    }
    postgres_server.drop_database(database)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"password": "wr0ng/pass word"},
            ["password authentication failed", "Correct 'username' and 'password'"],
        ),
        (
            {"password": None},
            ["password is not defined"]  # Rasa Pro's own loader refuses it
            if KNOWS_USERS
            else ["no password supplied", "Correct 'username' and 'password'"],
        ),
        ({"username": "nobody-here"}, ["Correct 'username' and 'password'"]),
        ({"db": "no such database"}, ["does not exist", "'login_db'"]),
        ({"login_db": "no such database"}, ["does not exist", "'login_db'"]),
        ({"query": {"driver": "my-driver"}}, ["driver", "Correct 'query'"]),
        ({"query": {"sslmode": "require"}}, ["SSL", "sslmode"]),
    ],
)
def test_what_postgresql_refuses_is_an_error_at_once(load, postgresql, options, parts):
    raised = refused(load, {**postgresql, **options}, *parts)
    assert not isinstance(raised.value, ConnectionException)  # which says: try again


SECRET = "S3cret/pass:word@%&"


@pytest.mark.parametrize(
    "options",
    [
        {"password": SECRET},
        {
            "url": "postgresql://user:S3cret%2Fpass%3Aword%40%25%26@127.0.0.1:{port}/rasa"
        },
        {"url": f"postgresql://user:{SECRET}@127.0.0.1:{{port}}/rasa"},
        {"url": f"postgresql+nodriver://user:{SECRET}@127.0.0.1:{{port}}/rasa"},
        {"url": "postgresql://user:S3cret%2Fpass%3Aword%40%25%26@127.0.0.1:1/rasa"},
        {"password": SECRET, "query": {"driver": "x"}},
        {"password": SECRET, "passwort": SECRET},
        {"url": f"user:{SECRET}@127.0.0.1:{{port}}"},
        {"url": f"user:{SECRET}@127.0.0.1:port"},
        {"url": f"user:{SECRET}@"},
        {"url": f"user:{SECRET}@127.0.0.1", "dialect": "sqlite"},
        # The server's own words name the user.
        {"password": SECRET, "username": SECRET},
    ],
)
def test_no_password_in_any_error_or_log(load, postgresql, options, caplog):
    caplog.set_level("DEBUG")
    options = {
        key: value.format(port=postgresql["port"]) if key == "url" else value
        for key, value in options.items()
    }
    raised = refused(load, {**postgresql, "timeout": 0.5, **options})
    shown = "".join(
        traceback.format_exception(None, raised.value, raised.value.__traceback__)
    )
    messages = shown + caplog.text
    for form in (SECRET, "S3cret"):
        assert form not in _without_source_lines(messages)


def _without_source_lines(text):
    """A traceback quotes the source of this test, where the password stands."""
    return "\n".join(
        line
        for line in text.splitlines()
        if "SECRET" not in line and "S3cret%2F" not in line
    )


async def test_password_is_not_in_the_repr(load, postgresql, postgres_server):
    store = load(postgresql)
    assert postgres_server.password not in repr(store)
    assert postgresql["db"] in repr(store)


def test_tls_of_the_environment(load, postgresql, monkeypatch):
    """Rasa Pro's own store takes it from there; the server of the tests has none."""
    monkeypatch.setenv("SQL_TRACKER_STORE_SSL_MODE", "require")
    refused(load, postgresql, "SSL", "sslmode")
    load({**postgresql, "query": {"sslmode": "disable"}})
    # Only a server with TLS needs a file of trusted certificates.
    monkeypatch.setenv("SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE", "ours.pem")
    engine = backend_log(load({**postgresql, "query": {"sslmode": "disable"}})).engine
    assert engine.url.query == {"sslmode": "disable", "sslrootcert": "ours.pem"}


def test_missing_schema_is_an_error(load, postgresql, monkeypatch):
    monkeypatch.setenv("POSTGRESQL_SCHEMA", 'no "such" schema')
    refused(load, postgresql, "POSTGRESQL_SCHEMA", 'CREATE SCHEMA "no ""such"" schema"')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRESQL_POOL_SIZE", "many"),
        ("POSTGRESQL_POOL_SIZE", "-1"),
        ("POSTGRESQL_MAX_OVERFLOW", "1.5"),
    ],
)
def test_pool_settings_that_make_no_sense(load, postgresql, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    refused(load, postgresql, name, value)


def test_user_who_may_not_create_tables(load, postgresql, postgres_server):
    with postgres_server.administrator(
        postgresql["db"]
    ) as connection, connection.cursor() as cursor:
        cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        cursor.execute("ALTER SCHEMA public OWNER TO postgres")
        cursor.execute(f'ALTER DATABASE "{postgresql["db"]}" OWNER TO postgres')
    refused(load, postgresql, "permission denied", "GRANT")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "port",
                "username",
                "password",
                "login_db",
                "query",
                "record_exp",
                "timeout",
                "startup_timeout",
                "dialect",
                "retrieve_events_from_previous_conversation_sessions",
                "max_conversations",
                "misspelt",
            ]
        ),
        anything,
        max_size=4,
    )
)
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("store", ["SQLTrackerStore", "InMemoryTrackerStore"])
def test_options_of_any_type_give_a_store_or_an_error(store, options):
    endpoint = {"type": f"rasa_trackers.{store}", **options}
    if store == "SQLTrackerStore":
        endpoint["db"] = ":memory:"
    try:
        made = unwrapped(TrackerStore.create(EndpointConfig(**endpoint)))
    except RasaException:
        return
    assert type(made).__name__ == store
    assert type(made).__module__.startswith("rasa_trackers.")
    made.close()


@pytest.mark.parametrize("db", ["", None])
async def test_empty_db_is_the_default_and_not_memory(load, tmp_path, monkeypatch, db):
    """As an environment variable is that is not set."""
    monkeypatch.chdir(tmp_path)
    if db is None and KNOWS_USERS:
        # Rasa Pro's own loader refuses it, and makes no store.
        refused(load, {"type": SQL, "db": db}, "db is not defined")
        return
    load({"type": SQL, "db": db})
    assert (tmp_path / "rasa.db").exists()


def test_database_in_memory_is_warned_of(load, caplog):
    load({"type": SQL, "db": ":memory:"})
    assert "lost when Rasa stops" in caplog.text


@pytest.mark.parametrize("text", ["true", "TRUE", "false", ""])
async def test_flag_as_text_has_its_meaning(load, endpoint, text):
    option = "retrieve_events_from_previous_conversation_sessions"
    store = load({**endpoint, option: text})
    both = conversation(2, 1)
    await store.save(tracker("ada", both))
    has_both = len((await store.retrieve("ada")).events) == len(both)
    assert has_both is (text.lower() == "true")
