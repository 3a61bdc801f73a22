"""Options that need no server, and what loads without Rasa."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rasa_trackers.errors import StoreError
from rasa_trackers.mongo.options import MONGO
from rasa_trackers.store_options import checked


def make(**given):
    made = MONGO.make_log(checked(MONGO.store, MONGO.options, given), True)
    made.log.close()
    return made


def error_of(**given):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of Rasa where Rasa is loaded
        make(**given)
    assert type(raised.value).__name__ in ("StoreError", "RasaException")
    return str(raised.value)


def test_port_is_a_part_of_the_url():
    text = error_of(url="mongo", port=27017)
    assert "the port is a part of 'url'" in text
    assert "mongodb://host:27017" in text


def test_defaults():
    made = make()
    assert made.log.name == (
        "MongoDB collection 'rasa.conversations' at localhost:27017"
    )
    assert made.workers == 8


def test_passwords_are_named_as_secrets():
    made = make(url="mongodb://ada:a%20b@host", password="c")
    assert {"a%20b", "a b", "c"} <= set(made.secrets)


@pytest.mark.parametrize(
    "weak",
    ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"],
)
@pytest.mark.parametrize("place", ["url", "client_options"])
def test_weak_tls_is_one_warning(caplog, weak, place):
    given = {"url": "mongodb://host/?tls=true"}
    if place == "url":
        given["url"] += f"&{weak}=true"
    else:
        given["client_options"] = {weak: True}
    make(**given)
    (record,) = [each for each in caplog.records if "can pass for" in each.message]
    assert record.levelname == "WARNING"
    assert weak.lower() in record.message.lower()


@pytest.mark.parametrize("url", ["mongodb://host/?tls=true", "host"])
def test_sound_tls_is_no_warning(caplog, url):
    make(url=url, client_options={"tlsInsecure": False} if "tls" in url else {})
    assert "can pass for" not in caplog.text


def test_write_concern_that_acknowledges_nothing():
    assert "w=0" in error_of(url="mongodb://host/?w=0")


def test_needs_no_rasa_and_package_needs_no_driver():
    program = """
import sys
import rasa_trackers.mongo
assert not {"pymongo", "rasa"} & set(sys.modules)
import rasa_trackers.mongo.log, rasa_trackers.mongo.options
import rasa_trackers.mongo.connection, rasa_trackers.mongo.failures
assert "rasa" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert issubclass(StoreError, Exception)
