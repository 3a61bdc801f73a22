"""Options of the Redis store: each part of a URL means something or is an error."""

from __future__ import annotations

import logging

import pytest
import redis

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import START
from redis_store.redis_logs import address, entries, make_log, names
from servers.redis import RedisServer


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


def works_in(log, client):
    """Whether a log stores in the database of a client."""
    client.flushall()
    log.open()
    log.append("ada", entries("a"), START)
    stored = names(log.read_back("ada").events)
    log.close()
    return stored == ["a"] and client.dbsize() == 1


@pytest.mark.parametrize(
    ("url", "db"),
    [
        ("{socket}", 0),
        ("unix://{socket}", 0),
        ("unix://{socket}?db=3", 3),
        ("{address}", 0),
        ("{address}/3", 3),
        ("redis://{address}", 0),
        ("redis://{address}/", 0),
        ("redis://{address}/3", 3),
        ("redis://{address}?db=3", 3),
    ],
)
def test_url_that_works(server, url, db):
    where = f"{server.host}:{server.port}"
    url = url.format(socket=server.socket_path, address=where)
    with server.client(db=db) as client:
        assert works_in(make_log({"url": url}), client)


def test_path_of_a_socket_that_is_not_there():
    log = make_log({"url": "/var/run/redis/no.sock", "timeout": 1})
    assert "/var/run/redis/no.sock" in log.name
    with pytest.raises(redis.ConnectionError) as raised:
        log.open()
    assert log.classify(raised.value).away


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host/prod", "'prod'"),
        ("host/prod", "'prod'"),
        ("redis://host/0/1", "'0/1'"),
        ("redis://host/-1", "'-1'"),
        ("redis://host/0?db=1", "two places"),
        ("redis://host?db=1&db=1", "two places"),
        ("redis://ada@host?username=grace", "two places"),
        ("redis://host?db=first", "'db'"),
        ("redis://host?retry_on_timeout=1", "retry_on_timeout.*client_options"),
        ("redis://host?db", "no name=value"),
        ("redis://host/0#fragment", "percent-encoded"),
        ("http://host", "percent-encoded"),
        ("redis://host:port", "percent-encoded"),
        ("redis://host:0", "percent-encoded"),
        ("redis://ho st", "percent-encoded"),
        ("unix://var/run/redis.sock", "three slashes"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "unix socket has no TLS"),
        ("redis://host?ssl_cert_reqs=none", "no TLS"),
        ("rediss://host?ssl_cert_reqs=perhaps", "required, optional or none"),
        ("rediss://host?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://host?ssl_cert_reqs=none&ssl_check_hostname=true", "ssl_check_host"),
        ("rediss://host?ssl_ca_certs=/nowhere.pem", "/nowhere.pem"),
    ],
)
def test_url_with_a_part_that_means_nothing(url, message):
    with pytest.raises(type(store_error("")), match=message):
        make_log({"url": url})


@pytest.mark.parametrize(
    "url",
    ["redis://:12/se-cret@host", "redis://u:12?se-cret@h", "redis://u:1#se-cret@h"],
)
def test_password_that_is_not_encoded_is_not_shown(url):
    with pytest.raises(type(store_error("")), match="percent-encoded") as raised:
        make_log({"url": url})
    assert "se-cret" not in str(raised.value)


def test_database_in_the_url_of_a_cluster():
    with pytest.raises(type(store_error("")), match="a Redis cluster has one database"):
        make_log({"url": "redis://host/3", "deployment_mode": "cluster"})


@pytest.mark.parametrize(
    ("url", "weak"),
    [
        ("rediss://host", False),
        ("rediss://host?ssl_cert_reqs=required", False),
        ("rediss://host?ssl_cert_reqs=optional", True),
        ("rediss://host?ssl_cert_reqs=none", True),
        ("rediss://host?ssl_check_hostname=false", True),
    ],
)
def test_weakened_tls_gives_one_warning(caplog, url, weak):
    with caplog.at_level(logging.WARNING):
        make_log({"url": url})
    assert len(caplog.records) == weak
    assert ("not verified" in caplog.text) is weak


def test_client_options_reach_the_server(server):
    log = make_log({**address(server), "client_options": {"client_name": "ours"}})
    log.open()
    with server.client() as client:
        assert "ours" in [each["name"] for each in client.client_list()]
    log.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_nam": "x"}, "does not know it. Did you mean 'client_name'"),
        ({"decode_responses": True}, "the store sets it itself"),
        ({"socket_timeout": 1}, "the store sets it itself"),
        ({"ssl_ca_path": "/etc"}, "needs 'use_ssl: true'"),
        (["client_name"], "mapping"),
    ],
)
@pytest.mark.parametrize("mode", ["standard", "cluster"])
def test_client_options_that_make_no_sense(options, message, mode):
    with pytest.raises(type(store_error("")), match=message):
        make_log({"client_options": options, "deployment_mode": mode})


def test_value_that_the_driver_refuses(server):
    log = make_log({**address(server), "client_options": {"max_connections": "many"}})
    with pytest.raises(type(store_error("")), match="Correct 'client_options'"):
        log.open()


def test_no_driver_option_of_a_cluster_is_dropped_in_silence():
    options = {"client_name": "x", "health_check_interval": 1}
    known = make_log({"client_options": options})
    known.close()
    with pytest.raises(type(store_error("")), match="health_check_interval"):
        make_log({"client_options": options, "deployment_mode": "cluster"})
