"""Rows of a SQLite file that somebody else has damaged cost themselves alone."""

from __future__ import annotations

import time

from rasa_trackers.event_log import START
from rasa_trackers.sql.sqlite.damaged import DamagedText
from sql.sql_logs import entries, make_log, run, sqlite_options


def test_date_of_a_damaged_sender_id_ends_the_purge(tmp_path):
    log = make_log(sqlite_options(tmp_path), record_exp=0.2)
    log.open()
    run(
        log,
        "INSERT INTO rasa_trackers_expiry (sender_id, expires_at, last_id) "
        "VALUES (CAST(x'6164ff61' AS TEXT), 1.0, 1)",
    )
    log.append("ada", entries("a"), START)
    deadline = time.monotonic() + 60
    while log.read_back("ada").events:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    purged = 0
    for _ in range(10):
        try:
            gone = log.purge_expired()
        except DamagedText:  # tried again: the log reads leniently from then on
            continue
        purged += gone
        if not gone:
            break
    else:
        raise AssertionError("the purge does not end")
    assert purged == 2
    assert run(log, "SELECT count(*) FROM rasa_trackers_expiry") == [(0,)]
    log.close()
