"""The process that runs H2, and hands its JDBC out over a socket.

Run as ``python h2_bridge.py JAR PORT`` in an environment that has JPype. Java is not
let into the tests' own processes: such a process waits at its end for every thread that
has ever called Java, or aborts in some of the cases.

Each connection of a client is one of H2's, and its thread. A message is four bytes of
length and JSON; the first one names the database, each later one asks for something,
and each has one answer.
"""

import json
import socket
import socketserver
import struct
import sys

import jpype


class Session(socketserver.BaseRequestHandler):
    def handle(self):
        self.jdbc = None
        try:
            while True:
                header = self._read(4)
                request = json.loads(self._read(*struct.unpack("!I", header)))
                answer = json.dumps(self._answer(request)).encode()
                self.request.sendall(struct.pack("!I", len(answer)) + answer)
        except (EOFError, OSError):
            pass  # the client is gone
        finally:
            if self.jdbc is not None:
                try:
                    self.jdbc.rollback()
                    self.jdbc.close()
                except jpype.JException:
                    pass  # the database has been shut down

    def _read(self, length):
        data = b""
        while len(data) < length:
            part = self.request.recv(min(length - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def _answer(self, request):
        try:
            return getattr(self, "on_" + request.pop("do"))(**request)
        except jpype.JException as error:
            if not hasattr(error, "getErrorCode"):
                return {"code": 50000, "message": str(error)}
            return {
                "code": int(error.getErrorCode()),
                "message": str(error.getMessage()),
            }

    def on_connect(self, url, user, password):
        manager = jpype.JClass("java.sql.DriverManager")
        self.jdbc = manager.getConnection(url, user, password)
        self.jdbc.setAutoCommit(False)
        return {}

    def on_commit(self):
        self.jdbc.commit()
        return {}

    def on_rollback(self):
        self.jdbc.rollback()
        return {}

    def on_batch(self, sql, rows):
        prepared = self.jdbc.prepareStatement(sql)
        try:
            for row in rows:
                self._bind(prepared, row)
                prepared.addBatch()
            return {"count": sum(int(count) for count in prepared.executeBatch())}
        finally:
            prepared.close()

    def on_run(self, sql, row):
        prepared = self.jdbc.prepareStatement(sql)
        try:
            self._bind(prepared, row)
            if not prepared.execute():
                return {"count": int(prepared.getUpdateCount())}
            results = prepared.getResultSet()
            metadata = results.getMetaData()
            columns = range(1, metadata.getColumnCount() + 1)
            rows = []
            while results.next():
                texts = [results.getString(index) for index in columns]
                rows.append([None if text is None else str(text) for text in texts])
            return {
                "columns": [
                    [
                        str(metadata.getColumnLabel(i)),
                        str(metadata.getColumnTypeName(i)),
                    ]
                    for i in columns
                ],
                "rows": rows,
            }
        finally:
            prepared.close()

    @staticmethod
    def _bind(prepared, row):
        for index, value in enumerate(row, 1):
            if value is None or value == "":
                # An empty text is what Oracle takes for NULL, as H2 does in its mode.
                prepared.setString(index, None)
            elif isinstance(value, int):
                prepared.setLong(index, value)
            elif isinstance(value, float):
                prepared.setDouble(index, value)
            else:
                prepared.setString(index, value)


class Bridge(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def get_request(self):
        request, address = super().get_request()
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return request, address


if __name__ == "__main__":
    jpype.startJVM("-Xmx512m", classpath=[sys.argv[1]], convertStrings=False)
    jpype.JClass("org.h2.Driver")
    Bridge(("127.0.0.1", int(sys.argv[2])), Session).serve_forever()
