"""Tests with Rasa's own server."""

import os

from rasa_trackers import rasa_versions

# Rasa Pro imports without a licence, but neither trains nor runs.
needs_licence = rasa_versions.KNOWS_USERS and "RASA_LICENSE" not in os.environ
collect_ignore_glob = ["test_*.py"] if needs_licence else []
