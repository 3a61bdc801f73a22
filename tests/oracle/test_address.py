"""Which server a store connects to, and by which driver."""

from __future__ import annotations

import sys

import pytest
from rasa.shared.exceptions import RasaException

from oracle.oracle_logs import (
    ENDPOINT,
    NEEDS_CX_ORACLE,
    without,
)
from rasa_trackers.sql.connection import engine_url
from rasa_trackers.sql.options import ORACLE
from rasa_trackers.sql.oracle.address import place
from rasa_trackers.sql.oracle.client import choose_driver
from rasa_trackers.store_options import checked


def address(**options):
    defaults = {
        "dialect": "oracle+cx_oracle",
        "url": "dbhost",
        "port": None,
        "db": "rasa.db",
        "username": "rasa",
        "password": "x",
        "query": {},
    }
    return place(engine_url({**defaults, **options}), 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"db": "FREEPDB1"}, "(PORT=1521))(CONNECT_DATA=(SERVICE_NAME=FREEPDB1))"),
        ({"db": "X", "port": "1600"}, "(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "h:1600/X"}, "(HOST=h)(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"query": {"sid": "XE"}}, "(CONNECT_DATA=(SID=XE))"),
        ({"query": {"service_name": "X"}}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "oracle://u:p@h/XE"}, "(CONNECT_DATA=(SID=XE))"),
        ({"url": "oracle://h/?service_name=X"}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        ({"url": "oracle://h", "db": "X"}, "(CONNECT_DATA=(SERVICE_NAME=X))"),
        (
            {"db": "X", "query": {"protocol": "tcps", "ssl_server_dn_match": True}},
            (
                "(PROTOCOL=TCPS)(HOST=dbhost)(PORT=1521))(CONNECT_DATA=(SERVICE_NAME=X))"
                "(SECURITY=(SSL_SERVER_DN_MATCH=YES))"
            ),
        ),
        (
            {
                "db": "X",
                "query": {"wallet_location": "/w", "ssl_server_cert_dn": "CN=d"},
            },
            '(SECURITY=(SSL_SERVER_CERT_DN="CN=d")(MY_WALLET_DIRECTORY="/w"))',
        ),
        (
            {"url": "(DESCRIPTION=(ADDRESS=(HOST=h))(CONNECT_DATA=(SID=XE)))"},
            "(DESCRIPTION=(CONNECT_TIMEOUT=4)(TRANSPORT_CONNECT_TIMEOUT=4)(ADDRESS",
        ),
        (
            {"query": {"dsn": "(description = (connect_timeout=9)(address=(host=h)))"}},
            "(TRANSPORT_CONNECT_TIMEOUT=4) (connect_timeout=9)",
        ),
        ({"query": {"dsn": "alias_of_tnsnames"}}, "alias_of_tnsnames"),
        (
            {"query": {"dsn": "//h:1600/X"}},
            (
                "(CONNECT_TIMEOUT=4)(TRANSPORT_CONNECT_TIMEOUT=4)(ADDRESS=(PROTOCOL=TCP)"
                "(HOST=h)(PORT=1600))(CONNECT_DATA=(SERVICE_NAME=X))"
            ),
        ),
        ({"query": {"dsn": "h/X.example.com"}}, "(HOST=h)(PORT=1521))"),
        ({"query": {"dsn": "tcps://h:1600/X"}}, "tcps://h:1600/X"),
    ],
)
def test_address(options, expected):
    assert expected in address(**options).dsn


@pytest.mark.parametrize(
    "url", ["rasa:ge/heim@h/X", "rasa:ge/heim@h", "rasa:ge?heim@h/X", "h/", "h:x/X"]
)
def test_url_that_is_no_address_is_refused_without_its_password(url):
    with pytest.raises(RasaException, match="neither a host") as refused:
        address(url=url)
    assert "heim" not in str(refused.value)


@pytest.mark.parametrize(
    "options", [{}, {"db": ""}, {"query": {"sid": "XE", "service_name": "X"}}]
)
def test_address_must_name_one_database(options):
    with pytest.raises(RasaException, match="FREEPDB1"):
        address(**options)


def test_name_that_would_change_the_address_is_refused():
    with pytest.raises(RasaException, match="dsn"):
        address(db="X)(HOST=elsewhere")


def test_wallet_with_a_password_is_passed_on():
    found = address(
        db="X", query={"wallet_location": "/w", "wallet_password": "123", "retry": "2"}
    )
    assert found.driver_options == {
        "wallet_location": "/w",
        "wallet_password": "123",
        "retry": 2,
    }


def test_option_that_the_driver_does_not_take_is_an_error(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "cx_Oracle", None)
    with pytest.raises(RasaException, match="wallet_pasword"):
        load({**ENDPOINT, "query": {"wallet_pasword": "x"}})


@pytest.mark.parametrize("driver", ["cx_Oracle", "oracledb"])
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"stmtcachsize": 40}, ["stmtcachsize", "Did you mean 'stmtcachesize'"]),
        ({"nothing_like_it": 1}, ["has no such", "It may have: ", "edition"]),
        ({"user": "other"}, ["'user'", "sets it itself"]),
        ({"encoding": "UTF-16"}, ["'encoding'", "sets it itself"]),
    ],
)
def test_option_is_looked_up_in_the_drivers_own_list(driver, query, words):
    """When the log is made: no server and no client library is asked."""
    if driver == "cx_Oracle" and sys.version_info >= (3, 11):
        pytest.skip("no wheels of cx_Oracle for Python 3.11")
    given = {"dialect": f"oracle+{driver.lower()}", "url": "h", "db": "X"}
    values = checked(ORACLE.store, ORACLE.options, {**given, "query": query})
    with pytest.raises(RasaException) as refused:
        ORACLE.make_log(values, True)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schem": "x"}, ["schem", "did you mean 'schema'"]),
        ({"dialect": "postgresql"}, ["oracle+oracledb"]),
        ({"dialect": "oracle+odbc"}, ["oracle+oracledb"]),
        ({"url": "postgresql://h/d"}, ["another kind of database"]),
        ({"create_tables": "perhaps"}, ["create_tables", "true or false"]),
        ({"query": {"thick_mode": "x"}}, ["thick_mode", "true or false"]),
        ({"query": {"sid": ["a", "b"]}}, ["sid", "more than once"]),
    ],
)
def test_bad_option_is_an_error(load, options, words):
    with pytest.raises(RasaException) as error:
        load({**ENDPOINT, **options})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("dialect", ["oracle", "oracle+cx_oracle"])
def test_oracledb_stands_in_where_cx_oracle_is_missing(monkeypatch, dialect):
    without(monkeypatch, "cx_Oracle")
    module = choose_driver(dialect).module
    original = getattr(module, "rasa_trackers_original", module)
    assert original.__name__ == "oracledb"
    assert original.version != "8.3.0", "the real module is left as it is"


@NEEDS_CX_ORACLE
def test_cx_oracle_is_taken_where_it_is_asked_for():
    assert choose_driver("oracle+cx_oracle").module.__name__ == "cx_Oracle"


@pytest.mark.parametrize(
    ("dialect", "missing", "remedy"),
    [
        ("oracle", ["cx_Oracle", "oracledb"], "pip install "),
        ("oracle+cx_oracle", ["cx_Oracle", "oracledb"], "pip install cx_Oracle"),
        ("oracle+oracledb", ["oracledb"], "pip install oracledb"),
    ],
)
def test_missing_driver_is_an_error(load, monkeypatch, dialect, missing, remedy):
    without(monkeypatch, *missing)
    with pytest.raises(RasaException, match=remedy):
        load({**ENDPOINT, "dialect": dialect})
