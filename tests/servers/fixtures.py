import pytest
from servers.postgres import PostgresServer
@pytest.fixture(scope="session")
def postgres_server():
    s=PostgresServer(); s.start(); yield s; s.stop(); s.remove()

from servers.mongo import MongoServer
@pytest.fixture(scope="session")
def mongo_server():
    s=MongoServer(replica_set=True); s.start(); yield s; s.stop(); s.remove()
