"""Real sentinels that ask for a password or speak TLS."""

from __future__ import annotations

import contextlib
import logging

import pytest
import redis
import trustme
from redis.exceptions import RedisClusterException

from rasa_trackers.errors import store_error
from rasa_trackers.event_log import START
from rasa_trackers.redis.options import REDIS
from rasa_trackers.store_options import checked
from redis_store.redis_logs import entries, make_log, names
from servers.proxy import TcpProxy
from servers.redis import VALKEY, RedisCluster, RedisServer
from servers.tls import Certificates, tls_terminator

SERVICE = "mymaster"
SENTINEL_MODE = {
    "deployment_mode": "sentinel",
    "password": "of-the-master",
    "timeout": 3,
}


class Sentinel(RedisServer):
    """A sentinel with a login of its own.

    Attributes:
        endpoint: Its `host:port`.
    """

    def __init__(self, master_port, username=None, password=None):
        self._watch = [
            f"monitor {SERVICE} 127.0.0.1 {master_port} 1",
            # Never: it may watch a port that speaks TLS, which it does not.
            f"down-after-milliseconds {SERVICE} 1000000000",
        ]
        super().__init__(VALKEY, username=username, password=password)
        self.endpoint = f"{self.host}:{self.port}"

    def _directives(self, durable):
        directives = {"bind": self.host, "port": self.port, "sentinel": self._watch}
        if self.username:
            directives["user"] = [
                "default off",
                f"{self.username} on ~* &* +@all >{self.password}",
            ]
        elif self.password:
            directives["requirepass"] = self.password
        return directives

    def _command(self):
        return [*super()._command(), "--sentinel"]


@pytest.fixture(scope="module")
def master():
    with RedisServer(VALKEY, password="of-the-master") as master:
        yield master


@pytest.fixture(scope="module")
def certificates():
    with Certificates() as certificates:
        yield certificates


@contextlib.contextmanager
def opened(endpoint, **options):
    """A log of the master that a sentinel names."""
    log = make_log({**SENTINEL_MODE, "endpoints": [endpoint], **options})
    try:
        log.open()
        yield log
    finally:
        log.close()


def failure_to_open(endpoint, **options):
    """What the error means with which a log cannot be opened."""
    log = make_log({**SENTINEL_MODE, "endpoints": [endpoint], **options})
    with pytest.raises((redis.RedisError, RedisClusterException)) as raised:
        log.open()
    log.close()
    return log.classify(raised.value)


def assert_works(master, log):
    master.flush()
    log.append("ada", entries("a"), START)
    assert names(log.read_back("ada").events) == ["a"]


@pytest.mark.parametrize("username", [None, "watcher"])
def test_sentinel_that_asks_for_a_password(master, username):
    with Sentinel(master.port, username, "of-the-sentinel") as sentinel:
        login = {
            "sentinel_username": username,
            "sentinel_password": "of-the-sentinel",
        }
        with opened(sentinel.endpoint, **login) as log:
            assert_works(master, log)
        for wrong in ({}, {**login, "sentinel_password": "of-the-master"}):
            failure = failure_to_open(sentinel.endpoint, **wrong)
            assert "'sentinel_password'" in failure.remedy
            assert not failure.transient


def test_sentinel_that_speaks_tls(master, certificates):
    with Sentinel(master.port) as sentinel, tls_terminator(
        certificates, sentinel.host, sentinel.port
    ) as tls:
        options = {"sentinel_ssl": True, "ssl_ca_certs": certificates.ca_file}
        with opened(f"127.0.0.1:{tls.port}", **options) as log:
            assert_works(master, log)
        assert tls.accepted
        with Certificates() as others:
            options["ssl_ca_certs"] = others.ca_file
            failure = failure_to_open(f"127.0.0.1:{tls.port}", **options)
        assert "'ssl_ca_certs'" in failure.remedy


@pytest.mark.parametrize("sentinel_ssl", [None, True, False])
def test_tls_with_the_master_is_tls_with_the_sentinels(
    master, certificates, caplog, sentinel_ssl
):
    with tls_terminator(certificates, master.host, master.port) as data, Sentinel(
        data.port
    ) as sentinel, tls_terminator(certificates, sentinel.host, sentinel.port) as tls:
        port = sentinel.port if sentinel_ssl is False else tls.port
        options = {
            "use_ssl": True,
            "sentinel_ssl": sentinel_ssl,
            "ssl_ca_certs": certificates.ca_file,
        }
        with caplog.at_level(logging.WARNING), opened(
            f"127.0.0.1:{port}", **options
        ) as log:
            assert_works(master, log)
        assert data.accepted
        assert ("sentinel_ssl: false" in caplog.text) is (sentinel_ssl is False)


def test_sentinel_without_tls_beside_a_master_with_it(master, certificates):
    options = {"use_ssl": True, "ssl_ca_certs": certificates.ca_file}
    with Sentinel(master.port) as sentinel:
        failure = failure_to_open(sentinel.endpoint, **options)
    assert "sentinel_ssl: false" in failure.remedy


def test_name_in_the_certificate_of_a_sentinel_is_verified(master, certificates):
    """An attacker with a trusted certificate for another name learns nothing."""
    authority = trustme.CA()
    ca_file = str(certificates.folder / "other-name.pem")
    authority.cert_pem.write_to_path(ca_file)
    context = certificates.server_context()
    authority.issue_cert("attacker.example.com").configure_cert(context)
    with Sentinel(master.port) as sentinel, TcpProxy(
        sentinel.host, sentinel.port, context
    ) as attacker:
        options = {"sentinel_ssl": True, "ssl_ca_certs": ca_file}
        failure = failure_to_open(f"127.0.0.1:{attacker.port}", **options)
    assert "'endpoints'" in failure.remedy
    assert "'ssl_ca_certs'" in failure.remedy


def test_name_in_the_certificate_of_a_cluster_is_verified(certificates):
    """redis-py 4.6 would not do it by itself."""
    authority = trustme.CA()
    ca_file = str(certificates.folder / "cluster.pem")
    authority.cert_pem.write_to_path(ca_file)
    context = certificates.server_context()
    authority.issue_cert("attacker.example.com").configure_cert(context)
    with RedisCluster(masters=1) as cluster, TcpProxy(
        cluster.nodes[0].host, cluster.nodes[0].port, context
    ) as attacker:
        with cluster.nodes[0].client() as client:
            client.config_set("cluster-announce-port", attacker.port)
        options = {
            "deployment_mode": "cluster",
            "endpoints": [f"127.0.0.1:{attacker.port}"],
            "ssl_ca_certs": ca_file,
            "timeout": 3,
        }
        endpoint = options.pop("endpoints")[0]
        failure = failure_to_open(endpoint, use_ssl=True, **options)
        assert "stands in the server's certificate" in failure.remedy
        options["endpoints"] = [endpoint]
        del options["ssl_ca_certs"]
        log = make_log({**options, "url": "rediss://x?ssl_cert_reqs=none"})
        log.open()
        log.close()


@pytest.mark.parametrize("name", ["username", "password", "ssl"])
def test_sentinel_options_without_a_sentinel_are_a_warning(caplog, name):
    with caplog.at_level(logging.WARNING):
        make_log({f"sentinel_{name}": "true"})
    assert f"'sentinel_{name}' is ignored" in caplog.text


def test_sentinels_without_endpoints():
    with pytest.raises(type(store_error("")), match="needs 'endpoints'"):
        make_log({"deployment_mode": "sentinel"})


def test_passwords_are_handed_over_as_secrets():
    options = {
        "deployment_mode": "sentinel",
        "endpoints": ["a:1"],
        "use_ssl": True,
        "password": "one",
        "sentinel_password": "two",
        "client_options": {"ssl_password": "three"},
    }
    made = REDIS.make_log(checked(REDIS.store, REDIS.options, options), True)
    assert {"one", "two", "three"} <= set(made.secrets)
