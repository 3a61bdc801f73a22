"""TLS for servers that have none: certificates, and a proxy that ends TLS."""

import contextlib
import ssl
from typing import ContextManager, Iterator

import trustme

from servers.process import HOST, make_folder, remove_folder
from servers.proxy import TcpProxy


class Certificates(ContextManager["Certificates"]):
    """An authority of the tests' own, and certificates of a server and a client.

    Attributes:
        ca_file: The authority's certificate, for clients to trust.
        server_file: The server's key and certificate chain, for the loopback address
            and `localhost`.
        client_certificate_file: A client's certificate chain.
        client_key_file: Its key.
        client_file: Both in one file.
    """

    def __init__(self) -> None:
        self.folder = make_folder("certificates")
        authority = trustme.CA()
        server = authority.issue_cert(HOST, "localhost")
        client = authority.issue_cert("client@example.com", common_name="client")
        self.ca_file = self._path("ca.pem")
        self.server_file = self._path("server.pem")
        self.client_certificate_file = self._path("client-certificate.pem")
        self.client_key_file = self._path("client-key.pem")
        self.client_file = self._path("client.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        server.private_key_and_cert_chain_pem.write_to_path(self.server_file)
        client.cert_chain_pems[0].write_to_path(self.client_certificate_file)
        client.private_key_pem.write_to_path(self.client_key_file)
        client.private_key_and_cert_chain_pem.write_to_path(self.client_file)

    def _path(self, name: str) -> str:
        return str(self.folder / name)

    def server_context(
        self, client_certificate_required: bool = False
    ) -> ssl.SSLContext:
        """The server's side of TLS.

        Args:
            client_certificate_required: Whether clients without a certificate of this
                authority are turned away.
        """
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=self.ca_file
        )
        context.load_cert_chain(self.server_file)
        context.verify_mode = (
            ssl.CERT_REQUIRED if client_certificate_required else ssl.CERT_NONE
        )
        return context

    def remove(self) -> None:
        """Delete the files."""
        remove_folder(self.folder)

    def __exit__(self, *exception: object) -> None:
        self.remove()


def tls_terminator(
    certificates: Certificates,
    target_host: str,
    target_port: int,
    client_certificate_required: bool = False,
) -> TcpProxy:
    """A `TcpProxy` that speaks TLS with the client."""
    return TcpProxy(
        target_host,
        target_port,
        certificates.server_context(client_certificate_required),
    )


#: What PostgreSQL's clients ask before they speak TLS, and what they are told.
SSL_REQUEST = (bytes.fromhex("00000008 04d2162f"), b"S")


@contextlib.contextmanager
def postgresql_tls(certificates: Certificates, host: str, port: int) -> Iterator[int]:
    """The port at which a PostgreSQL server that has no TLS has it."""
    with tls_terminator(certificates, host, port) as tls, TcpProxy(
        tls.host, tls.port, greeting=SSL_REQUEST
    ) as proxy:
        yield proxy.port
