"""Threads for what no call waits for."""

from __future__ import annotations

import logging
import threading
from typing import Callable

logger = logging.getLogger(__name__)


def start_thread(work: Callable[[], None], name: str) -> bool:
    """Do some work in a thread; ``False`` if the system has no more threads.

    The work is tried again at the next occasion. What has led to it is not to fail.
    """
    thread = threading.Thread(target=work, name=f"rasa_trackers-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        logger.warning("No thread can be started (%s). Raise the limit.", error)
        return False
    return True
