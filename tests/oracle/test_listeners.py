"""Real drivers, and listeners that fail."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from rasa.shared.exceptions import ConnectionException, RasaException

from oracle.oracle_logs import (
    ENDPOINT,
    NEEDS_CX_ORACLE,
    log_of,
    without,
)
from rasa_trackers.sql.oracle import log as oracle_log
from rasa_trackers.sql.oracle.client import attempt
from rasa_trackers.sql.oracle.failures import FAILURES, codes
from servers import h2_driver
from servers.oracle_client import NOTES_VARIABLE, client_library
from servers.silent import closed_port, silent_port, unreachable_port


@pytest.fixture
def thin(monkeypatch):
    """python-oracledb in thin mode is what the store finds."""
    without(monkeypatch, "cx_Oracle")


@pytest.mark.parametrize("dialect", ["oracle", "oracle+cx_oracle", "oracle+oracledb"])
def test_closed_port_is_a_connection_error(load, thin, dialect):
    with closed_port() as port, pytest.raises(ConnectionException, match="DPY-6005"):
        load({**ENDPOINT, "port": port, "dialect": dialect})


def test_unknown_host_is_a_connection_error(load, thin):
    with pytest.raises(ConnectionException, match="no server of this name"):
        load({**ENDPOINT, "url": "no-such-host.invalid"})


@pytest.mark.parametrize("peer", [silent_port, unreachable_port])
def test_silent_peer_is_given_up_in_time(load, thin, peer):
    before = time.monotonic()
    with peer() as port, pytest.raises(
        ConnectionException, match=r"took no connection|timed out"
    ):
        load({**ENDPOINT, "port": port})
    assert time.monotonic() - before < 20


def test_peer_that_closes_at_once_is_a_connection_error(load, thin):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.1)
        ended = threading.Event()

        def close_each():
            while not ended.is_set():
                with contextlib.suppress(socket.timeout):
                    listener.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        try:
            with pytest.raises(ConnectionException, match="DPY-"):
                load({**ENDPOINT, "port": listener.getsockname()[1]})
        finally:
            ended.set()
            thread.join()


def test_connection_that_comes_too_late_is_closed():
    closed, go_on = threading.Event(), threading.Event()

    class Late:
        def close(self):
            closed.set()

    def connect():
        go_on.wait(60)
        return Late()

    with pytest.raises(TimeoutError):
        attempt(0.1, connect, threading.Semaphore(1))
    go_on.set()
    assert closed.wait(60)


def test_child_connects_that_is_forked_during_the_first_attempt():
    """Until an attempt ends, python-oracledb would let all others wait for its mode."""
    script = (
        "import os, sys; sys.modules['cx_Oracle'] = None\n"
        "from rasa_trackers import OracleTrackerStore\n"
        "def error(port):\n"
        "    try: OracleTrackerStore(url='127.0.0.1', port=port, db='X', timeout=1,\n"
        "        username='u', password='p')\n"
        "    except Exception as error: return str(error)\n"
        "silent, closed = sys.argv[1:]\n"
        "print(error(silent), flush=True)\n"
        "child = os.fork()\n"
        "if child: sys.exit(os.waitpid(child, 0)[1] != 0)\n"
        "found = error(closed)\n"
        "print(found, flush=True)\n"
        "os._exit('DPY-6005' not in found)\n"
    )
    with silent_port() as silent, closed_port() as closed:
        done = subprocess.run(
            [sys.executable, "-c", script, str(silent), str(closed)],
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def test_error_while_connecting_is_passed_on():
    def connect():
        raise KeyError("x")

    with pytest.raises(KeyError):
        attempt(5, connect, threading.Semaphore(1))


def _client_library_is_there():
    script = "import cx_Oracle; cx_Oracle.clientversion()"
    return not subprocess.run(
        [sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL
    ).returncode


@NEEDS_CX_ORACLE
def test_missing_client_library_is_an_error_with_a_remedy(load):
    if _client_library_is_there():
        pytest.skip("this machine has an Oracle client")
    with closed_port() as port, pytest.raises(RasaException) as error:
        load({**ENDPOINT, "port": port, "dialect": "oracle+cx_oracle"})
    for words in ("DPI-1047", "Instant Client", "ldconfig", "pip install oracledb"):
        assert words in str(error.value)
    assert not isinstance(error.value, ConnectionException), "waiting will not help"


def test_thick_mode_without_a_client_library_is_an_error_with_a_remedy(tmp_path):
    """A process of its own, because a process stays thin or thick for good."""
    script = (
        "import sys; sys.modules['cx_Oracle'] = None\n"
        "from rasa_trackers import OracleTrackerStore\n"
        "OracleTrackerStore(url='127.0.0.1', db='X', timeout=2,\n"
        f"  query={{'thick_mode': True, 'lib_dir': {str(tmp_path)!r}}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    assert "DPI-1047" in done.stderr
    assert "ldconfig" in done.stderr


@contextlib.contextmanager
def tls_listener(certificates):
    """A listener that wants the client's certificate, notes a request, and closes."""
    requests = []
    context = certificates.server_context(client_certificate_required=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def take():
            try:
                client = listener.accept()[0]
            except socket.timeout:
                return
            client.settimeout(60)
            with client, contextlib.suppress(OSError), context.wrap_socket(
                client, server_side=True
            ) as stream:
                # A long request comes in two packets.
                request = stream.recv(4096) + stream.recv(4096)
                requests.append((stream.getpeercert()["subject"], request))

        def serve():
            while not ended.is_set():
                take()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def wallet(certificates, tmp_path):
    (tmp_path / "ewallet.pem").write_bytes(
        Path(certificates.client_file).read_bytes()
        + Path(certificates.ca_file).read_bytes()
    )
    return str(tmp_path)


def test_wallet_lets_the_driver_in(load, thin, certificates, wallet):
    """As far as the request for the service, which goes over TLS."""
    query = {"protocol": "tcps", "wallet_location": wallet, "ssl_server_dn_match": True}
    with tls_listener(certificates) as (port, requests), pytest.raises(
        ConnectionException
    ):
        load({**ENDPOINT, "url": "localhost", "port": port, "query": query})
    subject, request = requests[0]
    assert "client" in str(subject)
    assert b"(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)" in request


def test_server_without_a_certificate_that_the_wallet_knows_is_refused(
    load, thin, certificates
):
    query = {"protocol": "tcps"}
    with tls_listener(certificates) as (port, requests), pytest.raises(
        RasaException, match="Correct the wallet"
    ) as error:
        load({**ENDPOINT, "url": "localhost", "port": port, "query": query})
    assert not isinstance(error.value, ConnectionException), "waiting will not help"
    assert requests == []


# What passes for Oracle's client, in processes that only know one of the drivers

CLIENT_DRIVERS = pytest.mark.parametrize(
    "driver", [pytest.param("cx_Oracle", marks=NEEDS_CX_ORACLE), "oracledb"]
)
WITH_CLIENT = """
import asyncio, sys, threading
from rasa.shared.exceptions import ConnectionException
from rasa_trackers import OracleTrackerStore
from rasa_trackers.sql.oracle.log import OracleEventLog

driver, folder, port = sys.argv[1:]
sys.modules[{{"cx_Oracle": "oracledb", "oracledb": "cx_Oracle"}}[driver]] = None
options = {{"lib_dir": folder}}
if driver == "oracledb":
    options["thick_mode"] = True

def make(db="FREEPDB1", **more):
    return OracleTrackerStore(
        url="127.0.0.1", port=port, db=db, timeout=1, query=options, **more
    )

def connects():
    names = [thread.name for thread in threading.enumerate()]
    return names.count("rasa_trackers-connect")

try:
{script}
except ConnectionException as error:
    print("ConnectionException", error)
print(connects(), "still connect")
"""


@pytest.fixture(scope="module")
def client_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    client_library(folder)
    return folder


@NEEDS_CX_ORACLE
def test_list_of_cx_oracles_options_is_right(client_folder):
    """It parses them only once it has a client library; so in a process that has one."""
    script = (
        "import cx_Oracle\n"
        "from rasa_trackers.sql.oracle.client import _CX_ORACLE_OPTIONS as known\n"
        "for name in known:\n"
        "    try: cx_Oracle.connect(**{name: None, 'other': None})\n"
        "    except TypeError as error: assert f\"'{name}' is\" not in str(error), error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(client_folder)},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr


def with_client(driver, folder, port, script):
    """What a process prints that uses Oracle's client, and what that noted."""
    notes = folder / "notes"
    with contextlib.suppress(FileNotFoundError):
        notes.unlink()
    indented = "".join(f"    {line}\n" for line in script.splitlines())
    path = [str(Path(__file__).parents[1])]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITH_CLIENT.format(script=indented)),
            *(driver, str(folder), str(port)),
        ],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={
            **os.environ,
            NOTES_VARIABLE: str(notes),
            "PYTHONPATH": os.pathsep.join(path),
            # The Tiny C Compiler does not say that its libraries run no code on the
            # stack, and glibc 2.41 and later load none that may.
            "GLIBC_TUNABLES": "glibc.rtld.execstack=2",
        },
        # The client would wait for as long as the test holds its port silent.
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, notes.read_text(encoding="utf-8").splitlines()


#: The stand-in crashes there when python-oracledb binds a block's variables; it is not
#: known why.
not_on_new_glibc = pytest.mark.skipif(
    tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split("."))) >= (2, 41),
    reason="the stand-in for Oracle's client crashes with glibc 2.41 and later",
)


@CLIENT_DRIVERS
def test_silent_peer_of_oracles_client_is_given_up(client_folder, driver):
    """Its thread, which nothing can cut, does not keep the process from ending."""
    with silent_port() as port:
        printed, notes = with_client(driver, client_folder, port, "make()")
    assert "ConnectionException Oracle database 'FREEPDB1'" in printed
    assert "within 1 seconds" in printed
    assert "1 still connect" in printed
    (connect,) = notes
    assert connect == (
        "connect (DESCRIPTION=(CONNECT_TIMEOUT=1)(TRANSPORT_CONNECT_TIMEOUT=1)"
        f"(ADDRESS=(PROTOCOL=TCP)(HOST=127.0.0.1)(PORT={port}))"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))"
    )


@CLIENT_DRIVERS
@pytest.mark.parametrize(
    ("spool", "answer"),
    [
        ("off", "ConnectionException Oracle database 'FREEPDB1'"),
        # A conversation that is not known here begins afresh.
        ("memory", "NoneType None"),
    ],
)
def test_silent_peer_of_oracles_client_is_given_up_in_the_midst_of_work(
    client_folder, driver, spool, answer
):
    """A store that is at work connects anew: each call ends, none waits for another."""
    script = f"""
OracleEventLog.open = lambda log: None
store = make(spool={spool!r})
async def ask():
    asked = (store.retrieve(name) for name in ("ada", "grace", "joan"))
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        print(type(answer).__name__, answer)
asyncio.run(ask())
"""
    with silent_port() as port:
        printed, notes = with_client(driver, client_folder, port, script)
    assert printed.count(answer) == 3
    # The probe counts, too: it looks whether the server is silent to all.
    assert re.search("[34] still connect", printed)
    assert len(notes) in (3, 4)


@CLIENT_DRIVERS
def test_errors_of_oracles_client_are_connection_errors(client_folder, driver):
    with closed_port() as port:
        printed, _ = with_client(driver, client_folder, port, "make()")
    assert "ConnectionException" in printed
    assert "ORA-12541" in printed
    assert "0 still connect" in printed


APPEND = """
import contextlib
import sqlalchemy.exc
from rasa_trackers.event_log import Entry
from rasa_trackers.sql.oracle import log as oracle_log
from rasa_trackers.sql.rows import row
from rasa_api import backend_log

oracle_log.LONGEST_VARCHAR = 32767
OracleEventLog.open = lambda log: None
log = backend_log(make("ANSWERS"))
type(log.engine.dialect).initialize = lambda dialect, connection: None
entry = Entry("x" * %d, "slot", 1753011122.123457, None, "name")
with contextlib.suppress(sqlalchemy.exc.DatabaseError):
    log.append("ada", [entry] * 2, 0)
"""


@not_on_new_glibc
@CLIENT_DRIVERS
def test_append_is_one_call_of_oracles_client(client_folder, driver):
    """By the real driver; types are numbered as in Oracle's ocidfn.h."""
    _, notes = with_client(driver, client_folder, 1, APPEND % 8191)
    assert notes[1:2] == ["prepare DECLARE"]
    assert notes[-1] == "execute"
    binds = {note.split()[1]: note.split()[2:] for note in notes[2:-1]}
    text, number, double = "1", "6", "22"
    assert binds["data_0"] == [text, "32764"]
    assert binds["timestamp_1"] == [double, "8"]
    assert binds["intent_name_1"][0] == text
    assert binds["lock_id"][0] == number
    assert len(binds) == len(notes[2:-1]) == 14, "each name is bound once"


@not_on_new_glibc
@CLIENT_DRIVERS
def test_longer_text_would_be_a_clob_of_oracles_client(client_folder, driver):
    """So the store has a limit for what goes into a block."""
    _, notes = with_client(driver, client_folder, 1, APPEND % 8192)
    assert notes.count("lob") == 2
    assert [note for note in notes if note.startswith("bind data_")] == [
        f"bind data_{number} 112 8" for number in range(2)
    ]
    assert oracle_log.LONGEST_VARCHAR == 8191


@CLIENT_DRIVERS
def test_many_long_texts_are_one_call_of_oracles_client(client_folder, driver):
    """No CLOB is made for any of them."""
    script = (
        (APPEND % 40_000).partition("with")[0]
        + """
with log.engine.connect() as connection:
    connection.execute(log.statements.insert_events, [row("ada", entry)] * 60)
"""
    )
    _, notes = with_client(driver, client_folder, 1, script)
    assert notes[1] == "prepare INSERT"
    binds = {note.split()[1]: note.split()[2] for note in notes[2:-1]}
    assert binds["data"] == "1", "text, and not 112, a CLOB"
    assert binds["timestamp"] == "22"
    assert len(binds) == len(notes[2:-1]) == 6
    assert notes[-1] == "execute"


def test_attempts_that_hang_are_not_without_number():
    go_on = threading.Event()
    attempts = threading.Semaphore(2)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="took no connection"):
            attempt(0.05, lambda: go_on.wait(60), attempts)
    with pytest.raises(TimeoutError, match=r"tnsnames\.ora"):
        attempt(0.05, lambda: 17, attempts)
    go_on.set()
    assert attempt(10, lambda: 17, attempts) == 17


def test_password_is_in_no_error(load, thin, caplog):
    with closed_port() as port, pytest.raises(RasaException) as error:
        load({**ENDPOINT, "port": port, "query": {"wallet_password": "Wa11et"}})
    for secret in (ENDPOINT["password"], "Wa11et"):
        assert secret not in str(error.value) + caplog.text


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_error_is_classified_by_its_code(code):
    log = log_of((19, 3))
    for kind in (h2_driver.DatabaseError, h2_driver.OperationalError):
        cause = kind(f"{code}: something")
        wrapped = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
        assert log.classify(wrapped) == FAILURES[code]
    log.close()


def test_error_in_a_block_is_classified_by_what_is_in_it():
    text = (
        "ORA-06550: line 4, column 13:\nPL/SQL: ORA-00942: table or view does not exist"
    )
    cause = h2_driver.DatabaseError(text)
    error = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
    assert codes(error) == ["ORA-06550", "ORA-00942"]
    assert log_of((19, 3)).classify(error) is FAILURES["ORA-00942"]


@pytest.mark.parametrize(
    ("code", "transient"),
    [
        ("ORA-12541", True),
        ("ORA-12514", True),
        ("ORA-03113", True),
        ("ORA-00060", True),
        ("ORA-12170", True),
        ("DPY-6005", True),
        ("DPY-4011", True),
        ("ORA-01017", False),
        ("ORA-01031", False),
        ("ORA-00942", False),
        ("ORA-00001", False),
        ("DPI-1047", False),
    ],
)
def test_what_may_pass_is_tried_again(code, transient):
    assert FAILURES[code].transient is transient


def test_certificate_that_is_refused_is_not_tried_again():
    cause = h2_driver.DatabaseError(
        "DPY-6005: cannot connect to database. [SSL: CERTIFICATE_VERIFY_FAILED]"
    )
    error = sa.exc.DBAPIError.instance(None, None, cause, h2_driver.Error)
    assert not log_of((19, 3)).classify(error).transient
