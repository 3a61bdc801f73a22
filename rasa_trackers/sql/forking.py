"""A pool of connections whose process can fork."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from sqlalchemy.pool import QueuePool

logger = logging.getLogger(__name__)

#: Seconds that a fork waits for calls under way.
_FORK_PATIENCE = 5.0


class ForkablePool(QueuePool):  # type: ignore[misc]
    """A pool of which no connection is in use, or being made, during a fork.

    A child inherits the locks that a driver holds in the threads of its parent, and no
    thread that would release them.
    """

    # Pools log errors with user names at DEBUG; SQLAlchemy keeps its own loggers at WARN.
    _sqla_logger_namespace = "sqlalchemy.pool.ForkablePool"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._changed = threading.Condition()
        self._beginning = 0
        self._is_forking = False

    def connect(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking)
            self._beginning += 1
        try:
            return super().connect()
        finally:
            with self._changed:
                self._beginning -= 1

    def before_fork(self, name: str) -> bool:
        """Wait for the calls under way, and let no other one begin.

        Args:
            name: How messages name the database.

        Returns:
            Whether no connection is in use.
        """
        with self._changed:
            self._is_forking = True
        deadline = time.monotonic() + _FORK_PATIENCE
        while self._beginning or self.checkedout():
            if time.monotonic() > deadline:
                logger.warning(
                    "%s: this process forks while a call is under way that does not "
                    "end. The child must not use the tracker store.",
                    name,
                )
                return False
            time.sleep(0.001)
        return True

    def after_fork(self) -> None:
        """Let calls begin again."""
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()
