"""``JsonLinesTrackerStore``: the class that ``endpoints.yml`` names."""

from json_lines.options import JSON_LINES
from rasa_trackers.tracker_store import EventLogTrackerStore


class JsonLinesTrackerStore(EventLogTrackerStore):
    """Keeps conversations in a folder, for the Rasa processes of one machine."""

    backend = JSON_LINES
