"""Experiment messages between acquisition computers, under iblutil's names.

    app         EchoProtocol: one end of the exchange. Services: several rigs as one
    base        events, addresses, what the two have in common
    _callbacks  who waits for which event

The wire is that of iblutil 1.11 and later; `trionet.open_rig_communicator` and its neighbours speak it.
"""

from . import app, base

__all__ = ["app", "base"]
