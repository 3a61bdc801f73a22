"""Fixtures of the tests of Oracle."""

from __future__ import annotations

import pytest

from servers.h2 import H2Server


@pytest.fixture
def only_h2(oracle_server):
    """Tests that look into the driver, or need what Oracle's users may not do, use it."""
    if not isinstance(oracle_server, H2Server):
        pytest.skip("for H2 only")
