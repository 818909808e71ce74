"""Fixtures for the tests over real sockets."""

from __future__ import annotations

import pytest

from tests.network.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Who is who, for TLS."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
