"""A tracker store of one's own: conversations in a folder of files.

``log`` is written from ``rasa_trackers.event_log`` alone. ``options`` makes a log from
the options in ``endpoints.yml``. ``store`` is the class that ``endpoints.yml`` names.
"""
