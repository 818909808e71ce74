"""The protocols without I/O: bytes in, events out, and the other way round.

Nothing in here opens a socket, knows a clock or imports an event loop. A front end feeds what it received
to a connection object, acts on the events that come out, and sends the bytes that its methods return.
"""
