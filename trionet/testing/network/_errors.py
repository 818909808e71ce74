"""Errors of those who use the network in a test; what simulated programs see are errors of the system."""

from __future__ import annotations


class UnknownHostError(LookupError):
    """No host of the network has this name."""


class NotOnHostError(RuntimeError):
    """A task that lives on no host has asked for a socket, or a task on a host for one of another kind.

    It is no `OSError`, so that no program takes it for bad weather on the network.
    """
