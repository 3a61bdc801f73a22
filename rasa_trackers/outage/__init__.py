"""What keeps an assistant going while its database is away.

``log`` is an event log in front of the backend's log. ``availability`` knows whether the
database is there, ``recent`` has copies of recent conversations, ``spool`` keeps what is
saved meanwhile, and ``handover`` stores it in the database afterwards.
"""
