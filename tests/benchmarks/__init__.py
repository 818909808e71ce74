"""Ratios against peers, measured alternately in one run: ``python -m tests.benchmarks``.

A row is a small function in a topic module (`pyon_rows`, `rpc_rows`, `feed_rows`, `memory_rows`): it opens a
measurement of our side and one of a peer's, and hands both to `compare`. The programs that do the work are
in `peers`, each in a process of its own.
"""
