"""Settings of the tests of the compat layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trionet_compat.portal import Portal, open_portal


@pytest.fixture
def own_portal() -> Iterator[Portal]:
    """A portal for the blocking objects of one test. It ends with it, and what is left in it as well."""
    with open_portal() as portal:
        yield portal
