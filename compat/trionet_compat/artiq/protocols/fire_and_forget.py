"""Calls that nobody waits for; stands for ``artiq.protocols.fire_and_forget``."""

from __future__ import annotations

import logging

from trionet_compat.sipyco import fire_and_forget

__all__ = ["FFProxy"]


class FFProxy(fire_and_forget.FFProxy):
    """As that of sipyco; what goes wrong is told to another logger."""

    _logger = logging.getLogger("artiq.protocols.fire_and_forget")
