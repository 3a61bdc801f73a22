"""A TCP proxy between a store and its server that fails as networks do."""

import abc
import asyncio
import contextlib
import ssl
import threading
from typing import (
    Any,
    ContextManager,
    Coroutine,
    List,
    Optional,
    Set,
    Tuple,
    TypeVar,
)

from servers.process import HOST, free_port

CHUNK_BYTES = 65536
WAIT_SECONDS = 60.0
# A held request counts as complete when the client has sent nothing for so long: a
# driver writes a long request in several pieces, without a pause.
QUIET_SECONDS = 0.05

T = TypeVar("T")
FaultT = TypeVar("FaultT", bound="Fault")
Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]
# A request and its answer.
Greeting = Tuple[bytes, bytes]
# Bytes, and the loop's time at which they may go on.
Piece = Tuple[float, bytes]


class Fault(abc.ABC):
    """What happens to the next request that has `pattern`, and then no more.

    Attributes:
        pattern: Bytes that the client sends, for example `b"COMMIT"`.
        count: How often it happened.
    """

    def __init__(self, proxy: "TcpProxy", pattern: bytes, times: int) -> None:
        self.pattern = pattern
        self.count = 0
        self._proxy = proxy
        self._left = times
        self._fired = threading.Event()

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until it has happened at least once.

        Raises:
            TimeoutError: After `seconds`.
        """
        if not self._fired.wait(seconds):
            raise TimeoutError(
                f"no client sent {self.pattern!r} within {seconds} seconds"
            )

    def disarm(self) -> None:
        """Let it happen no more."""
        self._left = 0

    def _matches(self, before: bytes, chunk: bytes) -> bool:
        # Only what ends in the new chunk: the old bytes have been looked at.
        overlap = len(self.pattern) - 1
        return (
            self._left > 0
            and self.pattern in (before[-overlap:] if overlap else b"") + chunk
        )

    def _fire(self) -> None:
        self.count += 1
        self._fired.set()

    @abc.abstractmethod
    async def _apply(self, connection: "_Connection", chunk: bytes) -> bool:
        """Do what the fault does to a request.

        Returns:
            Whether the request goes on to the server.
        """


class CutBefore(Fault):
    """See `TcpProxy.cut_before`."""

    async def _apply(self, connection: "_Connection", chunk: bytes) -> bool:
        connection.cut()
        self._fire()
        return False


class DropReply(Fault):
    """See `TcpProxy.drop_reply_after`."""

    def __init__(
        self, proxy: "TcpProxy", pattern: bytes, times: int, reply: bytes
    ) -> None:
        super().__init__(proxy, pattern, times)
        self._reply = reply

    async def _apply(self, connection: "_Connection", chunk: bytes) -> bool:
        connection.dropping = self
        return True

    def _swallow(self, connection: "_Connection", received: bytes) -> None:
        if self._reply in received:
            connection.cut()
            self._fire()


class HeldRequest(Fault):
    """See `TcpProxy.hold`."""

    def __init__(self, proxy: "TcpProxy", pattern: bytes) -> None:
        super().__init__(proxy, pattern, 1)
        self._request = b""
        self._connection: Optional[_Connection] = None

    async def _apply(self, connection: "_Connection", chunk: bytes) -> bool:
        self._request, self._connection = chunk, connection
        connection.held = True
        while True:
            try:
                more = await asyncio.wait_for(
                    connection.client[0].read(CHUNK_BYTES), QUIET_SECONDS
                )
            except asyncio.TimeoutError:
                break
            if not more:
                break
            self._request += more
        connection.client[1].transport.abort()
        self._fire()
        return False

    def release(self, seconds: float = WAIT_SECONDS) -> bytes:
        """Send the held request to the server, over the connection it was meant for.

        Returns:
            The first bytes that the server answers; empty if it closes the connection.

        Raises:
            TimeoutError: If no request was held or none is answered within `seconds`.
        """
        self.wait(0)
        return self._proxy._run(self._release(seconds))

    async def _release(self, seconds: float) -> bytes:
        assert self._connection
        assert self._connection.server
        reader, writer = self._connection.server
        try:
            writer.write(self._request)
            return await asyncio.wait_for(reader.read(CHUNK_BYTES), seconds)
        except asyncio.TimeoutError as error:
            raise TimeoutError(
                f"no answer to the held request within {seconds} seconds"
            ) from error
        finally:
            self._connection.cut()


class TcpProxy(ContextManager["TcpProxy"]):
    """Forwards connections from a loopback port to a server.

    What goes wrong is said by its methods, at any time and from any thread. Pattern
    faults look at the bytes that the client sends, in plain text: for TLS put a
    `ssl_context` here, so that the proxy ends it.

    Attributes:
        host: Always the loopback address.
        port: Where clients connect.
        accepted: How many connections were accepted.
        round_trips: How often, on any connection, an answer followed a request, however
            many pieces either had.
        bytes: How many went either way.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        ssl_context: Optional[ssl.SSLContext] = None,
        greeting: Optional[Greeting] = None,
    ) -> None:
        """Listen and forward.

        Args:
            target_host: Host of the server.
            target_port: Port of the server, which need not be there yet.
            ssl_context: Server context, to speak TLS with the client and plain TCP with
                the server.
            greeting: What clients say first, and what the proxy itself answers.
        """
        self.host = HOST
        self.port = free_port()
        self.accepted = 0
        self.round_trips = 0
        self.bytes = 0
        self._target = (target_host, target_port)
        self._ssl_context = ssl_context
        self._greeting = greeting
        self._delay = 0.0
        self._faults: List[Fault] = []
        self._connections: Set[_Connection] = set()
        self._server: Optional[asyncio.AbstractServer] = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=repr(self), daemon=True
        )
        self._thread.start()
        self._flowing = self._run(self._make_event())
        self.resume()
        self.accept()

    @staticmethod
    async def _make_event() -> asyncio.Event:
        # Here, since before Python 3.10 it belongs to the loop that runs meanwhile.
        return asyncio.Event()

    def _run(self, coroutine: "Coroutine[Any, Any, T]") -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len([one for one in self._connections if not one.held])

    def cut(self) -> None:
        """Close all connections, to clients and server; new ones are accepted."""
        self._run(self._cut(held_too=False))

    async def _cut(self, held_too: bool) -> None:
        for connection in list(self._connections):
            if held_too or not connection.held:
                connection.cut()

    def refuse(self) -> None:
        """Refuse connections, as a host without a server; open ones stay."""

        async def refuse() -> None:
            if self._server:
                self._server.close()
            self._server = None

        self._run(refuse())

    def accept(self) -> None:
        """Undo `refuse`."""

        async def accept() -> None:
            if not self._server:
                self._server = await asyncio.start_server(
                    self._forward,
                    self.host,
                    self.port,
                    ssl=self._ssl_context,
                    reuse_address=True,
                )

        self._run(accept())

    def delay(self, seconds: float) -> None:
        """Let all that is sent from now on take `seconds` longer each way."""
        self._delay = seconds

    def stall(self) -> None:
        """Accept connections, but forward nothing, as a network that loses all."""

        async def stall() -> None:
            self._flowing.clear()

        self._run(stall())

    def resume(self) -> None:
        """Undo `stall`. What was sent meanwhile arrives now."""

        async def resume() -> None:
            self._flowing.set()

        self._run(resume())

    def cut_before(self, pattern: bytes, times: int = 1) -> Fault:
        """Cut the connection at a request, which the server does not get.

        Args:
            pattern: Bytes of a request.
            times: For how many requests; after them all works again.
        """
        return self._arm(CutBefore(self, pattern, times))

    def drop_reply_after(
        self, pattern: bytes, times: int = 1, reply: bytes = b""
    ) -> Fault:
        """Deliver a request, and cut the connection instead of delivering the answer.

        So the server has done what the client may believe to have failed.

        Args:
            pattern: Bytes of a request.
            times: For how many requests; after them all works again.
            reply: Bytes that the answer must have; where several requests are under
                way, those that tell this one's answer. By default the first answer
                counts.
        """
        return self._arm(DropReply(self, pattern, times, reply))

    def hold(self, pattern: bytes) -> HeldRequest:
        """Keep back a request and cut its client's connection, once.

        `release` of what is returned sends it to the server: a request that was still
        under way when its client gave up.
        """
        return self._arm(HeldRequest(self, pattern))

    def clear(self) -> None:
        """Disarm all faults, and end delay, stall and refusal."""
        for fault in self._faults:
            fault.disarm()
        self._faults.clear()
        self.delay(0)
        self.resume()
        self.accept()

    def close(self) -> None:
        """Close the port and all connections."""
        self.refuse()
        self._run(self._cut(held_too=True))
        self._run(self._cancel_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _cancel_tasks() -> None:
        tasks = [
            task for task in asyncio.all_tasks() if task is not asyncio.current_task()
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _arm(self, fault: FaultT) -> FaultT:
        self._faults.append(fault)
        return fault

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        connection = _Connection(self, (reader, writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            if not connection.held:
                connection.cut()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TcpProxy on port {self.port} to {self._target[0]}:{self._target[1]}>"


class _Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: TcpProxy, client: Streams) -> None:
        self.proxy = proxy
        self.client = client
        self.server: Optional[Streams] = None
        self.dropping: Optional[DropReply] = None
        self.held = False
        self._before = b""
        self._replied = b""
        self._awaits_reply = False

    def cut(self) -> None:
        for _, writer in filter(None, (self.client, self.server)):
            # Python 3.11.2 raises this for TLS connections that are closed already.
            with contextlib.suppress(AttributeError):
                writer.transport.abort()
        self.proxy._connections.discard(self)

    async def run(self) -> None:
        if not await self._greet():
            return
        try:
            self.server = await asyncio.open_connection(*self.proxy._target)
        except OSError:
            return
        requests: asyncio.Queue[Piece] = asyncio.Queue(maxsize=1024)
        replies: asyncio.Queue[Piece] = asyncio.Queue(maxsize=1024)
        tasks = [
            asyncio.ensure_future(self._send(requests, self.server[1])),
            asyncio.ensure_future(self._send(replies, self.client[1])),
            asyncio.ensure_future(self._receive_requests(requests)),
            asyncio.ensure_future(self._receive_replies(replies)),
        ]
        try:
            # A sender ends when its side was closed, a receiver only after a fault.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _greet(self) -> bool:
        if not self.proxy._greeting:
            return True
        request, answer = self.proxy._greeting
        reader, writer = self.client
        try:
            if await reader.readexactly(len(request)) != request:
                return False
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return False
        return True

    async def _receive_requests(self, queue: "asyncio.Queue[Piece]") -> None:
        while True:
            chunk = await self._read(self.client[0])
            fault = next(
                (
                    fault
                    for fault in self.proxy._faults
                    if fault._matches(self._before, chunk)
                ),
                None,
            )
            self._before = (self._before + chunk)[-1024:]
            if fault:
                fault._left -= 1
                if not await fault._apply(self, chunk):
                    return
            self._awaits_reply = True
            await self._put(queue, chunk)

    async def _receive_replies(self, queue: "asyncio.Queue[Piece]") -> None:
        assert self.server
        while True:
            chunk = await self._read(self.server[0])
            if chunk and self._awaits_reply:
                self._awaits_reply = False
                self.proxy.round_trips += 1
            if self.dropping and chunk:
                self._replied += chunk
                self.dropping._swallow(self, self._replied)
            else:
                await self._put(queue, chunk)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            chunk = await reader.read(CHUNK_BYTES)
        except OSError:
            return b""
        self.proxy.bytes += len(chunk)
        return chunk

    async def _put(self, queue: "asyncio.Queue[Piece]", chunk: bytes) -> None:
        await queue.put((asyncio.get_running_loop().time() + self.proxy._delay, chunk))
        if not chunk:
            await (
                asyncio.Event().wait()
            )  # the sender ends the connection, after what is before it in the queue

    async def _send(
        self, queue: "asyncio.Queue[Piece]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await self.proxy._flowing.wait()
            try:
                if not chunk:
                    writer.close()
                    await writer.wait_closed()  # so that all before it arrives
                    return
                writer.write(chunk)
                await writer.drain()
            except OSError:
                return
