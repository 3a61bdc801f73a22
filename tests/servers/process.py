"""A server as a child process that stops, crashes, hangs, and leaves nothing behind."""

import abc
import atexit
import collections
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Deque,
    FrozenSet,
    List,
    Optional,
    Tuple,
    Type,
)

import port_for
import psutil
import tenacity

if TYPE_CHECKING:
    from typing_extensions import Self

# Limits for what is sure to come on any machine, however slow. They end what never comes.
START_SECONDS = 180.0
STOP_SECONDS = 60.0
HOST = "127.0.0.1"
#: How far above its port a node of a Redis cluster listens for the other nodes.
CLUSTER_BUS = 10_000

_STOPPED = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}

# Given out lately; the server may not listen yet.
_recent: Deque[int] = collections.deque(maxlen=200)


@functools.lru_cache(maxsize=None)
def ports_of(worker: int, workers: int, with_bus: bool) -> FrozenSet[int]:
    """The ports that are for one of the processes that run the tests at once.

    None of them takes another's, not even while a server of the other is down.
    """
    available = port_for.available_ports()
    return frozenset(
        port
        for port in available
        if port % CLUSTER_BUS % workers == worker
        and (not with_bus or port + CLUSTER_BUS in available)
    )


def free_port(with_bus: bool = False) -> int:
    """A free loopback port from outside of the range of outgoing connections.

    So a server finds its port free again at a restart, however many connections were
    opened meanwhile.

    Args:
        with_bus: Whether the port `CLUSTER_BUS` above it is to be free as well.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = ports_of(worker, workers, with_bus)
    while True:
        port: int = port_for.select_random(set(own), _recent)
        ports = {port, port + CLUSTER_BUS} if with_bus else {port}
        if not ports & set(_recent) and not any(map(port_for.port_is_used, ports)):
            _recent.extend(ports)
            return port


def wait_until(
    check: Callable[[], object],
    what: str,
    seconds: float = START_SECONDS,
    retry_on: Tuple[Type[Exception], ...] = (),
) -> None:
    """Poll `check` until it is true.

    Args:
        check: Called every 10 ms.
        what: What is waited for, for the error.
        seconds: Deadline in seconds.
        retry_on: Exceptions of `check` that mean "not yet"; any other is raised.

    Raises:
        TimeoutError: After `seconds`, from the last exception of `check`.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(0.01),
        retry=tenacity.retry_if_result(lambda result: not result)
        | tenacity.retry_if_exception_type(retry_on),
    )
    try:
        retrying(check)
    except tenacity.RetryError as error:
        raise TimeoutError(
            f"{what}: not within {seconds} seconds"
        ) from error.last_attempt.exception()


def process_tree(root: psutil.Process) -> List[psutil.Process]:
    """A process and all its descendants, root first."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_tree(root: psutil.Process, number: int) -> List[psutil.Process]:
    """Send a signal to a process and all its descendants, and return them."""
    tree = process_tree(root)
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return tree


def suspend_tree(root: psutil.Process) -> List[psutil.Process]:
    """Stop a process, so that it forks no more, then its descendants; return all."""
    try:
        root.suspend()
    except psutil.NoSuchProcess:
        return []
    return signal_tree(root, signal.SIGSTOP)


def threads_at_work(process: psutil.Process) -> List[int]:
    """Ids of the threads of a process that a SIGSTOP has not, or not yet, stopped."""
    at_work = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for thread in process.threads():
            with contextlib.suppress(psutil.NoSuchProcess):
                # Linux knows a thread by its id as it knows a process.
                if psutil.Process(thread.id).status() not in _STOPPED:
                    at_work.append(thread.id)
    return at_work


def kill_tree(root: psutil.Process) -> None:
    """SIGKILL a process and all its descendants, and wait until they are gone."""
    tree = suspend_tree(root)
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(
        lambda: not any(is_alive(process) for process in tree),
        f"end of {root}",
        STOP_SECONDS,
    )


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs, and is not just waiting for its parent's notice."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Reaper:
    """A process that cleans up once the test process is gone, however it went.

    Not PR_SET_PDEATHSIG: Linux sends that signal when the *thread* that started the
    server ends, so a server that a test restarts from a thread would die in its midst.
    """

    _command: "Optional[subprocess.Popen[bytes]]" = None
    _owner = 0

    @classmethod
    def watch(cls, kind: str, what: object) -> None:
        """Take a `process` (its id) or a `folder` (its path) into care."""
        cls._send(f"+{kind} {what}")

    @classmethod
    def forget(cls, kind: str, what: object) -> None:
        """Undo `watch`."""
        cls._send(f"-{kind} {what}")

    @classmethod
    def _send(cls, line: str) -> None:
        if cls._command is None or cls._owner != os.getpid():
            # It has a session of its own, so that Ctrl-C does not reach it.
            cls._command = subprocess.Popen(
                [sys.executable, "-m", "servers.reaper"],
                cwd=str(Path(__file__).parent.parent),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            cls._owner = os.getpid()
            atexit.register(cls._finish)
        assert cls._command.stdin
        os.write(cls._command.stdin.fileno(), (line + "\n").encode())

    @classmethod
    def _finish(cls) -> None:
        # Waits, so that all is gone once the tests have ended.
        if cls._command and cls._owner == os.getpid():
            cls._command.communicate(timeout=STOP_SECONDS)


def make_folder(prefix: str, parent: Optional[str] = None) -> Path:
    """A temporary folder that is deleted at the latest when the test process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"rasa_trackers-{prefix}-", dir=parent))
    Reaper.watch("folder", folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Delete a folder of `make_folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    Reaper.forget("folder", folder)


class Startable(abc.ABC):
    """A context manager that is started on entry and removed on exit."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start, and wait until it can be used."""

    @abc.abstractmethod
    def remove(self) -> None:
        """End it and delete its data; once more does no harm."""

    def __enter__(self) -> "Self":
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Server(Startable):
    """A server process on a loopback port with a folder of its own.

    Attributes:
        host: Always the loopback address.
        port: Stays the same over restarts.
        folder: Holds the data and the file `log`.
    """

    # Deadline of a start, in seconds.
    start_seconds: float = START_SECONDS
    # Signal that asks the server for an orderly end.
    stop_signal: int = signal.SIGTERM

    def __init__(self) -> None:
        self.host = HOST
        self.port = self._make_port()
        self.folder = self._make_folder()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def _make_port(self) -> int:
        return free_port()

    def _make_folder(self) -> Path:
        return make_folder(type(self).__name__)

    @abc.abstractmethod
    def _command(self) -> List[str]:
        """The command line, with arguments."""

    @abc.abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server answers; false or a `_not_ready` error means not yet."""

    # Exceptions of `_is_ready` that mean "not yet".
    _not_ready: Tuple[Type[Exception], ...] = (OSError,)

    @property
    def log(self) -> str:
        """What the server has printed since it was made."""
        path = self.folder / "log"
        return (
            path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        )

    @property
    def running(self) -> bool:
        """Whether the server process is there, suspended or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process, f"{self} was not started"
        return self._process.pid

    def start(self) -> None:
        """Start the server, on the port and data it had before, until it answers.

        Raises:
            RuntimeError: If it ends at once, with its log.
            TimeoutError: If it does not answer in time.
        """
        if self.running:
            return
        if self._process:
            self._forget_process()  # it ended by itself
        self._spawn()
        try:
            wait_until(
                self._answers,
                f"start of {self}",
                self.start_seconds,
                self._not_ready,
            )
        except TimeoutError as error:
            log = self.log[-2000:]
            self.kill()
            raise TimeoutError(f"{error}; its log:\n{log}") from error

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=str(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        Reaper.watch("process", self._process.pid)

    def _answers(self) -> bool:
        if not self.running:
            code = self._forget_process()
            raise RuntimeError(
                f"{self} ended with exit code {code}; its log:\n{self.log[-2000:]}"
            )
        return self._is_ready()

    def stop(self) -> None:
        """Ask the server to end, as an administrator does, and wait for it.

        Raises:
            TimeoutError: If it does not end in time; it is killed then.
        """
        if not self._process:
            return
        if self.running:
            self.resume()
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(
                f"{self} did not stop within {STOP_SECONDS} seconds"
            ) from error
        self._forget_process()

    def kill(self) -> None:
        """End the server and its children by SIGKILL, as a crash does."""
        if self._process:
            if self.running:
                kill_tree(psutil.Process(self._process.pid))
            self._forget_process()

    def restart(self) -> None:
        """Stop and start again."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Let the server hang, by SIGSTOP: its connections stay, without answers."""
        tree = suspend_tree(psutil.Process(self.pid))
        # The signal takes milliseconds to reach a thread that runs, which may well
        # answer until then.
        wait_until(
            lambda: not any(map(threads_at_work, tree)),
            f"suspension of {self}",
            STOP_SECONDS,
        )

    def resume(self) -> None:
        """Undo `suspend`. Does nothing if the server was not suspended."""
        for process in reversed(process_tree(psutil.Process(self.pid))):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def remove(self) -> None:
        """End the server and delete its data."""
        self.kill()
        remove_folder(self.folder)

    def _forget_process(self) -> Optional[int]:
        assert self._process
        code = self._process.wait()
        Reaper.forget("process", self._process.pid)
        self._process = None
        return code

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on port {self.port}>"
