"""Mutual TLS with pinned certificates, as ARTIQ uses it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TLSIdentity:
    """Who this side is, and the only peer that it trusts.

    Each side presents its certificate and trusts exactly the certificate(s) in a file that it was given
    of the other side: no authorities, no host names. Servers and clients are configured alike.

    Attributes:
        cert: PEM file with the certificate of this side.
        key: PEM file with its private key.
        peer_cert: PEM file with the certificate, or several, of the peers that are trusted.
    """

    cert: StrPath
    key: StrPath
    peer_cert: StrPath

    def client_context(self) -> ssl.SSLContext:
        """For connecting; OSError or ssl.SSLError if a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate itself is what is trusted, wherever it is
        return self._prepare(context)

    def server_context(self) -> ssl.SSLContext:
        """For serving; OSError or ssl.SSLError if a file cannot be used."""
        return self._prepare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def _prepare(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.verify_mode = ssl.CERT_REQUIRED
        # Lets a certificate that was signed by an authority be trusted without that authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for file in (self.cert, self.key, self.peer_cert):
            with open(file, "rb"):  # the errors of ssl do not name the file
                pass
        try:
            context.load_cert_chain(self.cert, self.key)
            context.load_verify_locations(self.peer_cert)
        except ssl.SSLError as error:
            files = ", ".join(str(file) for file in (self.cert, self.key, self.peer_cert))
            raise ssl.SSLError(error.errno, f"one of {files} cannot be used: {error.strerror}") from error
        return context


TLSConfig = ssl.SSLContext | TLSIdentity


def client_context(config: TLSConfig | None) -> ssl.SSLContext | None:
    """What a client was told about TLS as a context; OSError or ssl.SSLError if a file cannot be used."""
    return config.client_context() if isinstance(config, TLSIdentity) else config


def server_context(config: TLSConfig | None) -> ssl.SSLContext | None:
    """The same for a server."""
    return config.server_context() if isinstance(config, TLSIdentity) else config
