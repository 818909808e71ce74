"""Certificates for tests of TLS."""

from __future__ import annotations

from pathlib import Path

import trustme

import trionet


class Certificates:
    """Files for both sides, and for one that neither trusts."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        for name in ("server", "client", "stranger"):
            certificate = authority.issue_cert(f"{name}.lab")
            certificate.private_key_pem.write_to_path(folder / f"{name}.key")
            certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        self.folder = folder

    def identity(self, own: str, peer: str) -> trionet.TLSIdentity:
        return trionet.TLSIdentity(
            self.folder / f"{own}.pem", self.folder / f"{own}.key", self.folder / f"{peer}.pem"
        )
