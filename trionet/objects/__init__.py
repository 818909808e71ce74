"""Objects in other processes, and proxies to them: pyacq's RPC over ZeroMQ's wire protocol."""
