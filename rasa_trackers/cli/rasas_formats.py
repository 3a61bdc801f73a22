"""Rasa's own stores as event logs, to read them and to write them as Rasa does.

The stores of this package read Rasa's formats too, but they continue a conversation in
their own. These logs leave all as Rasa's own stores know it: ``type: SQL``, ``redis``,
``mongod``.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

from rasa_trackers.backend import Backend, MadeLog


def make_log(kind: str, backend: Backend, values: Mapping[str, Any]) -> MadeLog:
    """The log of one of Rasa's own stores.

    Args:
        kind: ``sql``, ``redis`` or ``mongod``.
        backend: The backend of this package that has the same options.
        values: The checked options.
    """
    if kind == "sql":
        from rasa_trackers.cli.rasas_sql import RasasSQLLog

        made = backend.make_log(values, True)
        without_users = backend.make_log(values, False)
        return made._replace(log=RasasSQLLog(made.log, without_users.log))
    if kind == "redis":
        from rasa_trackers.cli.rasas_redis import RasasRedisLog, rasas_prefix

        prefix = rasas_prefix(values["key_prefix"])
        made = backend.make_log(_without_expiry(values), True)
        return made._replace(log=RasasRedisLog(made.log, prefix, values["record_exp"]))
    from rasa_trackers.cli.rasas_mongo import RasasMongoLog

    made = backend.make_log(_without_expiry(values), True)
    return made._replace(log=RasasMongoLog(made.log))


def _without_expiry(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {**values, "key_prefix": None, "record_exp": None}
