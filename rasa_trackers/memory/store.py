"""``InMemoryTrackerStore``: the class that ``endpoints.yml`` names."""

from rasa_trackers.memory.options import MEMORY
from rasa_trackers.tracker_store import EventLogTrackerStore


class InMemoryTrackerStore(EventLogTrackerStore):
    """Keeps conversations in the memory of the process, until it ends.

    Stores of one process with equal options share their conversations. Rasa makes a new
    store for each model that is loaded, and Rasa Pro for each failed call; none of them
    begins the conversations anew.
    """

    backend = MEMORY
