import pytest
from servers.postgres import PostgresServer
@pytest.fixture(scope="session")
def postgres_server():
    s=PostgresServer(); s.start(); yield s; s.stop(); s.remove()
