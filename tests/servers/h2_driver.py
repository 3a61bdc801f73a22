"""A driver that speaks to H2 in Oracle mode and looks like cx_Oracle 8.3.

So the store, SQLAlchemy's Oracle dialect and their SQL run unchanged. What this module
changes on the way to H2:

* what it sends goes to ``h2_bridge.py``, and a bind variable ``:name`` becomes ``?``;
* an anonymous block is carried out here, statement by statement: H2 runs its SQL and
  evaluates its conditions, while loops, branches and the handler are Python's;
* ``ONLINE`` after CREATE INDEX and ``PURGE`` after DROP TABLE are left out, SYS_CONTEXT
  and NLS queries are answered;
* H2's errors get the code that Oracle has for the same.

It counts the round trips that cx_Oracle would make, and fetches a CLOB as an object
unless it is told to fetch text, as cx_Oracle does.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any, Dict, List, Optional, Tuple

apilevel = "2.0"
threadsafety = 2
paramstyle = "named"
version = _module_version = "8.3.0"
__future__ = type("Future", (), {})()


class Error(Exception):
    pass


class Warning(Exception):  # noqa: A001 (a name of the DB-API)
    pass


class InterfaceError(Error):
    pass


class DatabaseError(Error):
    pass


class OperationalError(DatabaseError):
    pass


class IntegrityError(DatabaseError):
    pass


class DataError(DatabaseError):
    pass


class InternalError(DatabaseError):
    pass


class ProgrammingError(DatabaseError):
    pass


class NotSupportedError(DatabaseError):
    pass


class _Type:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


STRING = _Type("STRING")
FIXED_CHAR = _Type("FIXED_CHAR")
NCHAR = _Type("NCHAR")
FIXED_NCHAR = _Type("FIXED_NCHAR")
LONG_STRING = _Type("LONG_STRING")
LONG_BINARY = _Type("LONG_BINARY")
BINARY = _Type("BINARY")
NUMBER = _Type("NUMBER")
NATIVE_FLOAT = _Type("NATIVE_FLOAT")
NATIVE_INT = _Type("NATIVE_INT")
CLOB = _Type("CLOB")
NCLOB = _Type("NCLOB")
BLOB = _Type("BLOB")
DATETIME = _Type("DATETIME")
TIMESTAMP = _Type("TIMESTAMP")
INTERVAL = _Type("INTERVAL")
ROWID = _Type("ROWID")
# The newer names, which SQLAlchemy 2.0 uses.
DB_TYPE_VARCHAR = STRING
DB_TYPE_CHAR = FIXED_CHAR
DB_TYPE_NVARCHAR = NCHAR
DB_TYPE_NCHAR = FIXED_NCHAR
DB_TYPE_LONG = LONG_STRING
DB_TYPE_LONG_RAW = LONG_BINARY
DB_TYPE_RAW = BINARY
DB_TYPE_NUMBER = NUMBER
DB_TYPE_BINARY_DOUBLE = NATIVE_FLOAT
DB_TYPE_CLOB = CLOB
DB_TYPE_NCLOB = NCLOB
DB_TYPE_BLOB = BLOB
DB_TYPE_DATE = DATETIME
DB_TYPE_TIMESTAMP = TIMESTAMP


class LOB:
    """What cx_Oracle gives for a CLOB that is not fetched as text."""

    def __init__(self, connection: Connection, text: str) -> None:
        self._connection, self._text = connection, text

    def read(self) -> str:
        self._connection.round_trips += 1
        return self._text


#: Oracle's code for H2's, where the store tells them apart.
_ORACLE_CODES = {
    22001: 12899,  # value too long
    23502: 1400,  # NULL not allowed
    23505: 1,  # unique constraint
    28000: 1017,  # wrong user or password
    40001: 60,  # deadlock
    42101: 955,  # table exists
    42102: 942,  # table not found
    42103: 942,
    42104: 942,
    42111: 955,  # index exists
    42112: 1418,
    42122: 904,  # column not found
    50200: 60,  # lock timeout
    57014: 1013,  # cancelled
    90035: 955,  # sequence exists
    90036: 2289,  # sequence not found
    90067: 3113,  # connection broken
    90079: 942,  # schema not found
    90096: 1031,  # not enough rights
    90098: 3113,  # database closed
    90121: 3113,
    90131: 8177,  # concurrent update
    90146: 12514,  # database not found
    90149: 12514,
}
_INTEGRITY = {1, 1400}


class _Error:
    """The object in an exception of cx_Oracle."""

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, f"ORA-{code:05}: {message}"
        self.full_code = f"ORA-{code:05}"
        self.isrecoverable = False
        self.offset = 0

    def __str__(self) -> str:
        return self.message


def _translated(code: int, message: str) -> Exception:
    oracle_code = _ORACLE_CODES.get(code, 600)
    text = " ".join(message.split())
    if re.search(r'\.(NEXTVAL|CURRVAL)" not found', text, re.IGNORECASE):
        oracle_code = 2289  # to H2, without such a sequence, it is a column
    if "object already exists" in text:
        oracle_code = 955  # H2's words, if two sessions create it at the same time
    kind = IntegrityError if oracle_code in _INTEGRITY else DatabaseError
    return kind(_Error(oracle_code, f"{text} (H2 {code})"))


def makedsn(host: str, port: int, sid: str = "", service_name: str = "") -> str:
    return f"(HOST={host})(PORT={port})(SERVICE_NAME={service_name or sid})"


def connect(
    user: str, password: str, dsn: str, create: bool = False, **_options: Any
) -> Connection:
    host, port, name = (
        re.search(rf"\({part}=([^)]*)\)", dsn).group(1)
        for part in ("HOST", "PORT", "SERVICE_NAME")
    )
    url = (
        f"jdbc:h2:mem:{name};MODE=Oracle;DB_CLOSE_DELAY=-1;LOCK_TIMEOUT=20000;"
        f"IFEXISTS={'FALSE' if create else 'TRUE'}"
    )
    try:
        stream = socket.create_connection((host, int(port)))
    except OSError as error:
        raise DatabaseError(_Error(12541, f"TNS:no listener ({error})")) from None
    connection = Connection(stream)
    try:
        connection.call("connect", url=url, user=user, password=password)
    except BaseException:
        connection.close()
        raise
    return connection


class Connection:
    #: The version of Oracle that SQLAlchemy is told.
    version = "19.3.0.0.0"
    #: Asked for by SQLAlchemy 2.0, of python-oracledb alone.
    max_identifier_length = 128

    def __init__(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = stream
        self.outputtypehandler: Any = None
        self.autocommit = False
        self.call_timeout = 0
        #: How often cx_Oracle would have waited for the server.
        self.round_trips = 0

    def call(self, do: str, **arguments: Any) -> Any:
        """Ask the process that runs H2, and wait for its answer."""
        message = json.dumps({"do": do, **arguments}).encode()
        try:
            self._stream.sendall(struct.pack("!I", len(message)) + message)
            answer = json.loads(self._read(*struct.unpack("!I", self._read(4))))
        except (OSError, EOFError) as error:
            raise DatabaseError(
                _Error(3113, f"end-of-file on communication channel ({error})")
            ) from None
        if "code" in answer:
            raise _translated(answer["code"], answer["message"])
        return answer

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._stream.recv(min(length - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.round_trips += 1
        self.call("commit")

    def rollback(self) -> None:
        self.round_trips += 1
        self.call("rollback")

    def ping(self) -> None:
        self.round_trips += 1
        self.call("run", sql="SELECT 1 FROM dual", row=[])

    def close(self) -> None:
        self._stream.close()

    def __del__(self, _how: int = socket.SHUT_RDWR) -> None:
        # As both drivers, which end the session on the server.
        try:  # noqa: SIM105 - when the interpreter ends, modules are gone
            self._stream.shutdown(_how)
        except OSError:
            pass


class Var:
    """A variable, bound or fetched into."""

    def __init__(self, type_: Any, outconverter: Any) -> None:
        self.type, self.outconverter, self.value = type_, outconverter, None

    def getvalue(self, _position: int = 0) -> Any:
        return self.convert(self.value)

    def convert(self, value: Any) -> Any:
        if value is None:
            return None
        if self.type in (STRING, LONG_STRING, str, FIXED_CHAR):
            value = str(value)
        elif self.type in (NATIVE_FLOAT, float):
            value = float(value)
        elif self.type in (int, NUMBER):
            value = _number(value)
        return self.outconverter(value) if self.outconverter else value


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 100
        self.outputtypehandler: Any = None
        self.description: Optional[List[Tuple[Any, ...]]] = None
        self.rowcount = 0
        self._rows: List[Tuple[Any, ...]] = []
        self._fetched = 0
        self._sizes: Dict[str, Any] = {}

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._rows = []

    def var(
        self,
        typ: Any,
        size: int = 0,
        arraysize: int = 1,
        inconverter: Any = None,
        outconverter: Any = None,
        **_options: Any,
    ) -> Var:
        return Var(typ, outconverter)

    def setinputsizes(self, **sizes: Any) -> None:
        self._sizes = sizes

    # Statements

    def execute(self, statement: str, parameters: Any = None) -> Optional[Cursor]:
        parameters = dict(parameters or {})
        self.connection.round_trips += 1
        self._count_temporary_lobs([parameters])
        self.description, self._rows, self._fetched = None, [], 0
        if re.match(r"\s*(DECLARE|BEGIN)\b", statement, re.IGNORECASE):
            # Longer ones are given to PL/SQL as CLOBs, whatever their input sizes.
            self.connection.round_trips += 2 * sum(
                isinstance(value, str) and 4 * len(value) > 32767
                for value in parameters.values()
            )
            _Block(self, statement, parameters).run()
            return None
        self._run(statement, parameters)
        return self if self.description else None

    def executemany(self, statement: str, parameters: List[Dict[str, Any]]) -> None:
        self.connection.round_trips += 1
        self._count_temporary_lobs(parameters)
        sql, names = _positional(_rewritten(statement))

        rows = [[_bound(each[name]) for name in names] for each in parameters]
        self.rowcount = self.connection.call("batch", sql=sql, rows=rows)["count"]

    def _count_temporary_lobs(self, parameters: List[Dict[str, Any]]) -> None:
        for name, type_ in self._sizes.items():
            if type_ in (CLOB, NCLOB):
                # cx_Oracle creates one in the server for each value, and fills it.
                self.connection.round_trips += 2 * len(parameters)
            assert not any(
                isinstance(each.get(name), str) and type_ is NATIVE_FLOAT
                for each in parameters
            )
        self._sizes = {}

    def _run(self, statement: str, parameters: Dict[str, Any]) -> None:
        sql, names = _positional(_rewritten(statement))

        row = [_bound(parameters[name]) for name in names]
        answer = self.connection.call("run", sql=sql, row=row)
        if "count" in answer:
            self.rowcount = answer["count"]
            return
        self.description = []
        converters = []
        for label, type_name in answer["columns"]:
            name = label.upper()
            type_, size, precision, scale = _described(type_name)
            handler = self.outputtypehandler or self.connection.outputtypehandler
            var = handler and handler(self, name, type_, size, precision, scale)
            converters.append(self._converter(type_, var))
            self.description.append((name, type_, size, size, precision, scale, 1))
        self._rows = [
            tuple(
                None if text is None else convert(text)
                for convert, text in zip(converters, texts)
            )
            for texts in answer["rows"]
        ]

    def _converter(self, type_: Any, var: Optional[Var]) -> Any:
        if var is not None:
            return var.convert
        if type_ in (CLOB, NCLOB):
            return lambda text: LOB(self.connection, text)
        if type_ is NUMBER:
            return _number
        return float if type_ is NATIVE_FLOAT else str

    # Fetching

    def fetchone(self) -> Optional[Tuple[Any, ...]]:
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: Optional[int] = None) -> List[Tuple[Any, ...]]:
        rows = self._rows[self._fetched : self._fetched + (size or self.arraysize)]
        self._fetched += len(rows)
        return rows

    def fetchall(self) -> List[Tuple[Any, ...]]:
        rows = self._rows[self._fetched :]
        self._fetched = len(self._rows)
        # The first rows come with the execution, the others in arrays.
        self.connection.round_trips += max(0, len(rows) - 1) // self.arraysize
        return rows


class _Block:
    """Carries an anonymous block out."""

    def __init__(self, cursor: Cursor, text: str, parameters: Dict[str, Any]) -> None:
        self._cursor, self._parameters = cursor, parameters
        declared, _, body = text.partition("BEGIN\n")
        names = re.findall(r"^(\w+) NUMBER;", declared, re.MULTILINE)
        self._variables: Dict[str, Any] = dict.fromkeys(names)
        self._lines = [line.strip() for line in body.strip().splitlines()]
        assert self._lines[-1] == "END;", self._lines[-1]
        handler = self._lines.index("EXCEPTION WHEN OTHERS THEN")
        self._body = self._lines[:handler]
        self._handler = self._lines[handler + 1 : -1]

    def run(self) -> None:
        try:
            self._run(self._body)
        except DatabaseError as error:
            assert self._handler == ["ROLLBACK;", "RAISE;"], self._handler
            self._cursor.connection.call("rollback")
            (cause,) = error.args
            # As PL/SQL says it.
            cause.message += "\nORA-06512: at line 1"
            raise
        self._cursor.rowcount = 0

    def _run(self, lines: List[str]) -> bool:
        """Run lines; gives whether a loop is to be left."""
        index = 0
        while index < len(lines):
            line = lines[index]
            if line.startswith("IF "):
                end = self._end(lines, index, "IF ", "END IF;")
                if self._holds(line[3:-5]) and self._run(lines[index + 1 : end]):
                    return True
                index = end
            elif line.startswith("FOR "):
                end = self._end(lines, index, "FOR ", "END LOOP;")
                first, last = re.search(r"IN (\d+)\.\.(\d+) LOOP$", line).groups()
                for _ in range(int(first), int(last) + 1):
                    if self._run(lines[index + 1 : end]):
                        break
                index = end
            elif line.startswith("EXIT WHEN "):
                if self._holds(line[len("EXIT WHEN ") : -1]):
                    return True
            else:
                self._statement(line)
            index += 1
        return False

    def _end(self, lines: List[str], start: int, opening: str, closing: str) -> int:
        depth = 0
        for index in range(start, len(lines)):
            depth += lines[index].startswith(opening)
            depth -= lines[index] == closing
            if not depth:
                return index
        raise AssertionError(f"{lines[start]} has no {closing}")

    def _statement(self, line: str) -> None:
        assert line.endswith(";"), line
        statement = line[:-1]
        if statement == "COMMIT":
            self._cursor.connection.call("commit")
            return
        if statement.startswith("RAISE_APPLICATION_ERROR("):
            code, message = re.search(r"\(-(\d+), '(.*)'\)", statement).groups()
            raise DatabaseError(_Error(int(code), message))
        assert re.match(r"(INSERT|DELETE|SELECT|UPDATE) ", statement), statement
        into = re.search(r" INTO (:?\w+) FROM ", statement)
        if statement.startswith("SELECT "):
            assert into, statement
            value = self._value(statement.replace(f" INTO {into.group(1)}", "", 1))
            target = into.group(1)
            if target.startswith(":"):
                self._parameters[target[1:]].value = value
            else:
                self._variables[target] = value
            return
        scratch = Cursor(self._cursor.connection)
        scratch._run(*self._with_variables(statement))

    def _holds(self, condition: str) -> bool:
        query = f"SELECT CASE WHEN {condition} THEN 1 ELSE 0 END FROM dual"
        return bool(self._value(query))

    def _value(self, query: str) -> Any:
        scratch = Cursor(self._cursor.connection)
        scratch.outputtypehandler = lambda *_: None
        scratch._run(*self._with_variables(query))
        ((value,),) = scratch._rows
        return value

    def _with_variables(self, statement: str) -> Tuple[str, Dict[str, Any]]:
        for name in self._variables:
            statement = re.sub(rf"(?<![:\w.]){name}\b", f":{name}", statement)
        return statement, {**self._parameters, **self._variables}


def _positional(statement: str) -> Tuple[str, List[str]]:
    names: List[str] = []

    def replaced(match: Any) -> str:
        if match.group("name") is None:
            return str(match.group(0))
        names.append(match.group("name").strip('"'))
        return "?"

    # A quoted bind variable begins with the colon, so it is tried first.
    pattern = r""":(?P<name>[A-Za-z]\w*|"[^"]+")|'(?:[^']|'')*'|"[^"]*\""""
    return re.sub(pattern, replaced, statement), names


def _rewritten(statement: str) -> str:
    if statement.startswith("CREATE INDEX") and statement.endswith(" ONLINE"):
        return statement[: -len(" ONLINE")]
    if statement.startswith("DROP TABLE") and statement.endswith(" PURGE"):
        return statement[: -len(" PURGE")]
    return re.sub(
        r"sys_context\(\s*'userenv',\s*'current_schema'\s*\)",
        "USER",
        statement,
        flags=re.IGNORECASE,
    )


def _bound(value: Any) -> Any:
    """A value as the bridge takes it."""
    if isinstance(value, Var):
        return value.value
    if isinstance(value, bool):
        raise NotSupportedError(_Error(3115, "unsupported network datatype"))
    if isinstance(value, str):
        value.encode("utf-8")  # raises for a lone surrogate, as cx_Oracle does
    return value


def _described(type_name: str) -> Tuple[Any, int, int, int]:
    """Type, size, precision and scale as Oracle describes such a column."""
    if type_name == "CHARACTER LARGE OBJECT":
        return CLOB, 0, 0, 0
    if type_name in ("INTEGER", "BIGINT"):
        return NUMBER, 127, 38, 0
    if type_name in ("NUMERIC", "DECFLOAT"):
        return NUMBER, 127, 0, -127
    if type_name == "DOUBLE PRECISION":
        return NATIVE_FLOAT, 127, 0, 0
    return STRING, 255, 0, 0


def _number(text: Any) -> Any:
    number = float(text)
    return int(str(text).split(".", maxsplit=1)[0]) if number.is_integer() else number
