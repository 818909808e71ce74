"""PYON v1, which was all the PYON there was; stands for ``artiq.protocols.pyon``. See `trionet.pyon.v1`."""

from __future__ import annotations

from trionet_compat.sipyco.pyon_v1 import decode, encode, load_file, store_file

__all__ = ["decode", "encode", "load_file", "store_file"]
