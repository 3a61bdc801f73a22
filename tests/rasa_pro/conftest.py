"""Tests of what only Rasa Pro has."""

from rasa_trackers import rasa_versions

collect_ignore_glob = [] if rasa_versions.KNOWS_USERS else ["test_*.py"]
