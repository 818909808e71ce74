"""For the tests of controllers and of the programs that call them.

With Trio's mock clock (the fixture ``autojump_clock`` of pytest-trio) and streams in memory, a test of
hours of waiting takes milliseconds and always gives the same result.
"""

from trionet.testing._rpc import open_memory_rpc_client

__all__ = ["open_memory_rpc_client"]
