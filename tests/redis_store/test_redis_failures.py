"""What errors of redis-py and the server mean: the table, entry by entry."""

from __future__ import annotations

import re

import pytest
import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from rasa_trackers.event_log import START
from rasa_trackers.redis.failures import (
    DRIVER_ERRORS,
    FAILURES,
    contention_error,
    failure_of,
)
from redis_store.redis_logs import address, entries, make_log
from servers.redis import REDIS, VALKEY, RedisServer

response = redis.ResponseError

#: An error, whether it passes, whether the whole database is away, and its remedy.
ERRORS = [
    (redis.ConnectionError("Error 111 connecting. Refused."), True, True, "runs"),
    (redis.TimeoutError("Timeout reading from socket"), True, True, "runs"),
    (ConnectionResetError(), True, True, "runs"),
    (exceptions.InvalidResponse("Protocol Error"), True, True, "use_ssl"),
    (redis.BusyLoadingError("loading"), True, True, "startup_timeout"),
    (redis.ReadOnlyError("You can't write"), True, True, "replica"),
    (response("NOREPLICAS Not enough good replicas"), True, True, "replicas"),
    (response("MISCONF Redis is configured"), False, True, "disk"),
    (response("ERR max number of clients reached"), True, True, "maxclients"),
    (redis.ConnectionError("Too many connections"), True, False, "max_connections"),
    (response("BUSY Redis is busy running a script."), True, True, "SCRIPT KILL"),
    (exceptions.MasterDownError("MASTERDOWN Link"), True, True, "masters"),
    (exceptions.ClusterDownError("CLUSTERDOWN"), True, True, "masters"),
    (MasterNotFoundError("No master found for 'x'"), True, True, "sentinels"),
    (
        MasterNotFoundError("No master : <SSLConnection<>> - TimeoutError('Timeout')"),
        True,
        True,
        "sentinel_ssl: false",
    ),
    (exceptions.ClusterError("TTL exhausted."), True, False, "SETSLOT"),
    (exceptions.RedisClusterException("cannot be connected"), True, True, ""),
    (exceptions.TryAgainError("x"), True, False, "SETSLOT"),
    (response("TRYAGAIN the slot is moving"), True, False, "SETSLOT"),
    (contention_error(), True, False, "same conversation"),
    (exceptions.OutOfMemoryError("command not allowed"), False, False, "maxmemory"),
    (response("WRONGTYPE Operation against a key"), False, False, "key_prefix"),
    (redis.AuthenticationError("invalid password"), False, False, "'password'"),
    (response("NOAUTH Authentication required."), False, False, "'password'"),
    (
        exceptions.AuthenticationWrongNumberOfArgsError("wrong number of arguments"),
        False,
        False,
        "Redis 6.2",
    ),
    (
        redis.AuthenticationError("Client sent AUTH, but no password is set"),
        False,
        False,
        "remove 'username' and 'password'",
    ),
    (
        response("DENIED Redis is running in protected mode"),
        False,
        False,
        "requirepass",
    ),
    (response("CROSSSLOT Keys in request"), False, False, "deployment_mode: cluster"),
    (exceptions.NoPermissionError("no permissions"), False, False, "ACL SETUSER"),
    (
        exceptions.NoPermissionError("no permissions to run the 'sentinel' command"),
        False,
        False,
        "'sentinel_username'",
    ),
    (
        MasterNotFoundError("No master : x - AuthenticationError('NOAUTH')"),
        False,
        False,
        "'sentinel_password'",
    ),
    (
        MasterNotFoundError("No master : ConnectionError('CERTIFICATE_VERIFY_FAILED')"),
        False,
        False,
        "'endpoints' hosts",
    ),
    (
        MasterNotFoundError(
            "No master : ConnectionError('[SSL: WRONG_VERSION_NUMBER]')"
        ),
        False,
        False,
        "sentinel_ssl: false",
    ),
    (
        redis.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] failed"),
        False,
        False,
        "ssl_ca_certs",
    ),
    (redis.ConnectionError("[SSL: WRONG_VERSION_NUMBER]"), False, False, "use_ssl"),
    (redis.ConnectionError("[SSL: SSLV3_ALERT] x"), False, False, "ssl_certfile"),
    (response("Cluster mode is not enabled"), False, False, "remove 'deployment_mode"),
    (response("MOVED 3999 127.0.0.1:6381"), False, False, "deployment_mode: cluster"),
    (response("unknown command `EVALSHA`"), False, False, "allow both"),
    (response("unknown command 'EVAL'"), False, False, "allow both"),
    (response("unknown command `ZADD`"), False, False, "Redis 6.2"),
    (response("Unknown Redis command called from script"), False, False, "Redis 6.2"),
    (response("syntax error"), False, False, "Redis 6.2"),
    (response("DB index is out of range"), False, False, "'db'"),
    (UnicodeError("encoding with 'idna' codec failed"), False, False, "host"),
    ("\ud800", False, False, "sender ids"),
    (response("ERR something new"), False, False, ""),
    (redis.DataError("Invalid input"), False, False, ""),
]


def pattern_of(error):
    """The entry of the table that an error has."""
    failure = failure_of(error)
    return [pattern for pattern, each in FAILURES.items() if each is failure]


@pytest.mark.parametrize(("error", "transient", "away", "remedy"), ERRORS)
def test_failure(error, transient, away, remedy):
    if isinstance(error, str):
        with pytest.raises(UnicodeEncodeError) as raised:
            error.encode()
        error = raised.value
    failure = failure_of(error)
    assert (failure.transient, failure.away) == (transient, away)
    assert remedy in failure.remedy


def test_every_entry_of_the_table_is_tested():
    errors = [each for each, *_ in ERRORS if isinstance(each, Exception)]
    tested = {pattern for error in errors for pattern in pattern_of(error)}
    assert FAILURES.keys() - tested == {"UnicodeEncodeError"}


def test_error_that_is_not_the_drivers():
    assert failure_of(KeyError("a bug")) is None


@pytest.mark.parametrize(
    "code", ["OOM", "READONLY", "WRONGTYPE", "MISCONF", "NOREPLICAS"]
)
def test_error_within_a_script(code):
    """Redis 6.2 hides the code of an error within a script."""
    hidden = f"Error running script (call to f_1): @user_script:5: -{code} for a reason"
    (pattern,) = pattern_of(redis.ResponseError(hidden))
    assert code in pattern


def test_error_of_a_cause():
    error = exceptions.RedisClusterException("Redis Cluster cannot be connected")
    error.__cause__ = redis.AuthenticationError("invalid password")
    assert failure_of(error).transient is False


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
@pytest.mark.parametrize("command", ["EVAL", "EVALSHA"])
def test_server_that_disables_scripts(flavour, command):
    config = {"rename-command": f'{command} ""'}
    with RedisServer(flavour, config=config) as server:
        log = make_log(address(server))
        with pytest.raises(redis.ResponseError) as raised:
            log.append("sender-of-secrets", entries("secret-event"), START)
        log.close()
    assert re.search("EVAL.*allow", log.classify(raised.value).remedy)
    # The server quotes the arguments of a command that it does not know.
    assert "secret" not in str(raised.value)


#: What is wrong, by options of the store, and what the remedy names.
MISTAKES = [
    ({"password": "x"}, "remove 'username' and 'password'"),
    ({"username": "nobody", "password": "x"}, "Correct 'username' and 'password'"),
    ({"username": "reader", "password": "x"}, "ACL SETUSER"),
    ({"db": 99}, "'db'"),
    ({"deployment_mode": "cluster"}, "remove 'deployment_mode"),
]


@pytest.mark.parametrize("flavour", [REDIS, VALKEY])
def test_remedy_for_what_is_wrong_on_a_server(flavour):
    with RedisServer(flavour) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@read")
        for options, remedy in MISTAKES:
            log = make_log({**address(server), **options})
            with pytest.raises(DRIVER_ERRORS) as raised:
                log.append("ada", entries("a"), START)
            assert remedy in log.classify(raised.value).remedy, options
            log.close()
        log = make_log(address(server))
        log.append("ada", entries("a"), START)
        (key,) = client.keys("*ada*")
        client.delete(key)
        client.set(key, "another program's")
        with pytest.raises(redis.ResponseError) as raised:
            log.append("ada", entries("a"), START)
        assert "Find the program" in log.classify(raised.value).remedy
        client.delete(key)
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.ResponseError) as raised:
            log.append("ada", entries("a"), START)
        assert "maxmemory" in log.classify(raised.value).remedy
        log.close()


def test_every_entry_says_what_to_do():
    assert [key for key, each in FAILURES.items() if each.remedy[-1:] != "."] == []
