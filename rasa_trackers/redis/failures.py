"""What errors of redis-py and of the server mean, and what to do about them."""

from __future__ import annotations

import re
from typing import Dict, Optional

import redis

from rasa_trackers.event_log import Failure
from rasa_trackers.redis.driver import RedisClusterException

#: How often a call begins anew because other writers have changed the conversation.
MOST_ROUNDS = 100

#: What redis-py raises. ``UnicodeError`` comes from its encoding of keys and host names.
DRIVER_ERRORS = (redis.RedisError, RedisClusterException, OSError, UnicodeError)

_UNREACHABLE = Failure(
    True,
    "Check that the server runs, that 'url' and 'port' are right, and that 'use_ssl' "
    "says whether it speaks TLS.",
    away=True,
)

#: Failures by a pattern of the error: the name of redis-py's exception, or the server's
#: own code, which is all there is for an error within a script. The first match counts.
FAILURES: Dict[str, Failure] = {
    r"others have changed the conversation": Failure(
        True, "Look for a program that writes the same conversation all the time."
    ),
    r"MasterNotFoundError.*(Authentication\w*Error|WRONGPASS|NOAUTH)": Failure(
        False,
        "Correct 'sentinel_username' and 'sentinel_password' in the tracker_store "
        "section of endpoints.yml.",
    ),
    r"(?i)NoPermission.*\bsentinel\b": Failure(
        False,
        "Let an administrator give 'sentinel_username' the right to call SENTINEL "
        "MASTERS.",
    ),
    r"MasterNotFoundError.*(CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError)": Failure(
        False,
        "Let 'ssl_ca_certs' name the certificate of the authority that signed the "
        "sentinels', and 'endpoints' hosts that stand in their certificates.",
    ),
    r"(?i)MasterNotFoundError.*(wrong.version.number|record layer failure)": Failure(
        False,
        "The sentinels do not speak TLS: set 'sentinel_ssl: false', or correct their "
        "ports in 'endpoints'.",
    ),
    r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError": Failure(
        False,
        "Let 'ssl_ca_certs' name the certificate of the authority that signed the "
        "server's, and 'url' a host that stands in the server's certificate.",
    ),
    r"WRONG_VERSION_NUMBER|wrong version number|record layer failure": Failure(
        False,
        "The server does not speak TLS at this port: correct 'use_ssl' or 'port'.",
    ),
    r"\[SSL|certificate required": Failure(
        False, "Correct 'ssl_certfile', 'ssl_keyfile' and 'ssl_ca_certs'."
    ),
    r"AuthenticationWrongNumberOfArgsError": Failure(
        False,
        "The server is older than Redis 6: its 'password' has no user. rasa_trackers "
        "needs Redis 6.2 or newer, or Valkey.",
    ),
    r"without any password configured|no password is set": Failure(
        False,
        "The server asks for no password: remove 'username' and 'password' from the "
        "tracker_store section of endpoints.yml, or let 'url' name the right server.",
    ),
    r"\bDENIED\b": Failure(
        False,
        "The server is in protected mode and takes connections of its own machine "
        "only: give it a password (requirepass), and set 'password' in endpoints.yml.",
    ),
    r"Authentication\w*Error|WRONGPASS|NOAUTH": Failure(
        False,
        "Correct 'username' and 'password' in the tracker_store section of "
        "endpoints.yml.",
    ),
    r"AuthorizationError|NoPermission|NOPERM|ACL failure|the script can't run": Failure(
        False,
        "Let an administrator give the user of the tracker store the keys and commands "
        "that the page on Redis in the manual of rasa_trackers lists (ACL SETUSER).",
    ),
    r"OutOfMemoryError|\bOOM\b": Failure(
        False,
        "The server's memory is full: raise its maxmemory, or let conversations expire "
        "by 'record_exp'.",
        # Not away: conversations can be read, and erased to make room.
    ),
    r"\bMISCONF\b": Failure(
        False,
        "The server cannot write to its disk and takes no changes: look at its log, "
        "free space or give it access.",
        away=True,
    ),
    r"\bWRONGTYPE\b": Failure(
        False,
        "The conversation's key holds something that is not a conversation. Find the "
        "program that wrote it, and delete the key or choose another 'key_prefix' or "
        "'db'.",
    ),
    r"ReadOnlyError|\bREADONLY\b|now a slave": Failure(
        True,
        "The server is a replica: it was a master before a failover, or 'url' names the "
        "wrong server. Let 'url' name the master, or use 'deployment_mode: sentinel' or "
        "cluster.",
        away=True,
    ),
    r"\bNOREPLICAS\b": Failure(
        True,
        "The server waits for replicas, as its min-replicas-to-write says.",
        away=True,
    ),
    r"BusyLoadingError|\bLOADING\b": Failure(
        True,
        "The server reads its data from the disk after a start; 'startup_timeout' "
        "sets how long to wait for it.",
        away=True,
    ),
    r"max number of clients": Failure(
        True, "Raise maxclients of the server.", away=True
    ),
    r"Too many connections|MaxConnectionsError": Failure(
        True, "Raise 'max_connections' in 'client_options' of the tracker store."
    ),
    r"Cluster mode is not enabled|cluster support disabled": Failure(
        False,
        "The server is not part of a cluster: remove 'deployment_mode: cluster' from "
        "endpoints.yml.",
    ),
    r"MovedError|AskError|\b(MOVED|ASK) \d+ ": Failure(
        False,
        "The server is part of a cluster: set 'deployment_mode: cluster' in "
        "endpoints.yml.",
    ),
    r"(?i)unknown command\W+eval": Failure(
        False,
        "The server's configuration disables or renames EVAL or EVALSHA "
        "(rename-command). Let an administrator allow both: the store works by scripts.",
    ),
    r"(?i)unknown (redis )?command": Failure(
        False,
        "rasa_trackers needs Redis 6.2 or newer, or Valkey, with the commands that the "
        "page on Redis in the manual of rasa_trackers lists (see rename-command in the "
        "server's configuration).",
    ),
    r"\bsyntax error\b": Failure(
        False, "rasa_trackers needs Redis 6.2 or newer, or Valkey."
    ),
    r"CROSSSLOT|hash to the same slot": Failure(
        False,
        "The server is a proxy of a cluster: let 'endpoints' name the cluster's nodes, "
        "and set 'deployment_mode: cluster' in endpoints.yml.",
    ),
    r"DB index is out of range|SELECT is not allowed": Failure(
        False, "Correct 'db' in the tracker_store section of endpoints.yml."
    ),
    # redis-py 8 does not say why it could not connect to a sentinel.
    r"MasterNotFoundError.*SSLConnection": Failure(
        True,
        "Check that the sentinels at 'endpoints' run and speak TLS (otherwise set "
        "'sentinel_ssl: false'), that their certificates are for the hosts in 'endpoints' "
        "and by an authority in 'ssl_ca_certs', and that they watch a master by the name "
        "of 'sentinel_service' which is up.",
        away=True,
    ),
    r"MasterNotFoundError": Failure(
        True,
        "Check that the sentinels at 'endpoints' run, and that they watch a master by "
        "the name of 'sentinel_service' which is up.",
        away=True,
    ),
    r"MASTERDOWN|MasterDownError|CLUSTERDOWN|ClusterDownError|SlotNotCovered": Failure(
        True,
        "Check that all masters run, or that replicas take their place.",
        away=True,
    ),
    r"\bBUSY\b": Failure(
        True,
        "A slow script of another program keeps the server busy: end that script "
        "(SCRIPT KILL).",
        away=True,
    ),
    r"TRYAGAIN|TryAgainError|TTL exhausted": Failure(
        True, "The slot moves to another node: finish or undo that (CLUSTER SETSLOT)."
    ),
    r"ClusterError|RedisClusterException": _UNREACHABLE,
    r"\bConnectionError|\bTimeoutError|InvalidResponse": _UNREACHABLE,
    r"'idna' codec": Failure(
        False,
        "This is no name of a host: correct 'url' or 'endpoints' of the tracker store "
        "in endpoints.yml.",
    ),
    r"UnicodeEncodeError": Failure(
        False,
        "Redis cannot store this text. Let the channel use sender ids of printable "
        "characters.",
    ),
}


def failure_of(error: Exception) -> Optional[Failure]:
    """What an error means; ``None`` for one that is not redis-py's."""
    if not isinstance(error, DRIVER_ERRORS):
        return None
    described = _described(error)
    for pattern, failure in FAILURES.items():
        if re.search(pattern, described, re.DOTALL):
            return failure
    return _UNREACHABLE if isinstance(error, OSError) else Failure(False)


def _described(error: BaseException) -> str:
    """The names of an error's classes and its text, with those of its causes."""
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    cause = error.__cause__
    return f"{names} {error} {_described(cause) if cause is not None else ''}"


def hide_data(error: Exception) -> None:
    """Remove the arguments of a command from an error: they hold what users write."""
    if error.args and isinstance(error.args[0], str):
        text, *_ = re.split(",? with args beginning with:", error.args[0])
        error.args = (text, *error.args[1:])


def is_wrong_type(error: Exception) -> bool:
    """Whether a key holds something else than the command is for."""
    return "WRONGTYPE" in str(error)


def wrong_type() -> redis.ResponseError:
    """The error for a value that this package has not written."""
    return redis.ResponseError("WRONGTYPE the list was not written by rasa_trackers")


def contention_error() -> redis.ConnectionError:
    """The error for a call that never comes first among other writers."""
    return redis.ConnectionError(
        f"others have changed the conversation {MOST_ROUNDS} times meanwhile"
    )
