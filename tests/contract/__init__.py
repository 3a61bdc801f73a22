"""What every event log promises: ``rasa_trackers.event_log``, clause by clause.

Nothing here imports Rasa, and nothing is tested that the contract does not say. Run it on
a backend of your own::

    python -m pytest tests/contract --event-log package.module:factory

``factory(folder: pathlib.Path, record_exp: Optional[float]) -> EventLog`` makes a log
that is not open yet. Two calls with the same folder mean the same storage. A factory that
takes ``keep_users`` as well is asked for logs that keep no users, too.
"""
