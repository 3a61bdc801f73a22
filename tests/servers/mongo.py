"""SecantusDB: MongoDB's wire protocol over MongoDB's storage engine, WiredTiger."""

import uuid
from typing import Any, Dict, List, Optional
from urllib.parse import quote

import pymongo
import pymongo.errors

from servers import wheels
from servers.process import Server
from servers.tls import Certificates

DISTRIBUTION = "secantusdb"
# The first and the last Python version that it has wheels for.
PYTHON_VERSIONS = ((3, 10), (3, 13))


class MongoAccess:
    """How to reach a MongoDB server, and databases in it for the tests.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        username: A user of the database `admin` who may do everything, or None if the
            server asks for none.
        password: The user's password, or None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: Optional[str] = None,
        password: Optional[str] = None,
    ) -> None:
        self.host = host
        self.port = port
        self.username = username
        self.password = password

    def client(self, **options: Any) -> "pymongo.MongoClient[Any]":
        """A client; the caller closes it.

        Args:
            options: Any option of `pymongo.MongoClient`, such as `port` of a proxy.
        """
        user = (
            {"username": self.username, "password": self.password}
            if self.username
            else {}
        )
        defaults = {
            "host": self.host,
            "port": self.port,
            "serverSelectionTimeoutMS": 10_000,
        }
        return pymongo.MongoClient(**{**defaults, **user, **options})

    def url(self, port: Optional[int] = None) -> str:
        """The URL of the server, with user and password.

        Args:
            port: Port of a proxy; the server's own by default.
        """
        password = quote(self.password or "", safe="")
        login = f"{quote(self.username, safe='')}:{password}@" if self.username else ""
        return f"mongodb://{login}{self.host}:{port or self.port}"

    @staticmethod
    def database_name() -> str:
        """Name of a database that is not there; the first write makes it."""
        return f"test_{uuid.uuid4().hex}"

    def drop_database(self, name: str) -> None:
        """Drop a database."""
        with self.client() as client:
            client.drop_database(name)


class MongoServer(MongoAccess, Server):
    """A MongoDB server that keeps what it has acknowledged over a crash."""

    _not_ready = (pymongo.errors.ConnectionFailure,)

    def __init__(
        self,
        username: Optional[str] = None,
        password: Optional[str] = None,
        replica_set: bool = False,
        certificates: Optional[Certificates] = None,
        client_certificate_required: bool = False,
    ) -> None:
        """Prepare the data folder.

        Args:
            username: A user that is made, with the role `root`. None: no password is
                asked for.
            password: The user's password.
            replica_set: Whether it says that it is the primary of a replica set of one,
                which transactions, sessions and retried writes need. Drivers then
                connect to the address that the server names, past any proxy, unless
                they are told `directConnection=true`.
            certificates: For TLS; clients have to speak TLS then.
            client_certificate_required: Whether clients without a certificate are
                turned away.

        Raises:
            RuntimeError: If the server cannot be installed.
        """
        Server.__init__(self)
        MongoAccess.__init__(self, self.host, self.port)
        self._certificates = certificates
        self._options = ["--sync-on-commit", *([] if replica_set else ["--standalone"])]
        try:
            self._python = wheels.environment(DISTRIBUTION, PYTHON_VERSIONS)
            if username:
                self._create_user(username, password)
            if certificates:
                self._options += [
                    *("--tls-cert-file", certificates.server_file),
                    *("--tls-key-file", certificates.server_file),
                    *("--tls-ca-file", certificates.ca_file),
                ]
            if client_certificate_required:
                self._options.append("--tls-require-client-cert")
        except BaseException:
            self.remove()
            raise

    def _create_user(self, username: str, password: Optional[str]) -> None:
        # Only a server that asks for no password lets a first user be made.
        self.start()
        with self.client() as client:
            client.admin.command("createUser", username, pwd=password, roles=["root"])
        self.stop()
        self._options.append("--auth")
        self.username, self.password = username, password

    def _command(self) -> List[str]:
        # One of its own, so that no settings of the machine's user count.
        settings = self.folder / "secantusd.toml"
        settings.touch()
        return [
            *(str(self._python), "-m", "secantus", "--config", str(settings)),
            *("--storage-path", str(self.folder / "data")),
            *("--host", self.host, "--port", str(self.port)),
            *self._options,
        ]

    def _is_ready(self) -> bool:
        with self.client(serverSelectionTimeoutMS=100) as client:
            client.admin.command("ping")
        return True

    def client(self, **options: Any) -> "pymongo.MongoClient[Any]":
        """As `MongoAccess.client`, with TLS and a certificate if it has TLS."""
        tls: Dict[str, Any] = {}
        if self._certificates and "--tls-cert-file" in self._options:
            tls = {
                "tls": True,
                "tlsCAFile": self._certificates.ca_file,
                "tlsCertificateKeyFile": self._certificates.client_file,
            }
        return super().client(**{**tls, **options})
