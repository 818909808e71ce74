"""A simulated network under unmodified Trio programs.

    async with open_virtual_network(seed=1, latency=0.001) as network:
        server, client = network.host("server"), network.host("client")
        await server.start(trio.serve_tcp, handler, 3251)
        with client.entered():
            stream = await trio.open_tcp_stream("server", 3251)
        network.partition(server, client)

The map of the code, from what users see to what lies under it:

    _network            the network: installing it, hosts, links, partitions
    _host               a host: its tasks, crash, restart, pause
    _links _rules       what becomes of packets
    _trace _netstat     what can be seen of it
    _gate _names        Trio's socket factory and host name resolver
    _residence          which host a task lives on
        |
    _socket             what sockets have in common: options (_options), waiting (_waiting)
    _stream_socket      TCP sockets: connecting, listening, accepting
    _datagram_socket    UDP sockets
        |
    _stack _ports       of a host: who gets a packet, who has a port
    _tcp_driver         connects a state machine of TCP with the stack, and with tasks
    _tcp                TCP without I/O: the state machine; _tcp_states is its table, _tcp_timing its timers,
                        _tcp_inbound and _tcp_outbound are the two directions
        |
    _fabric             takes packets from host to host, and has the timers: one task, one agenda
    _packets            packets and addresses
    _nursery _schedule  tasks and their order; what is private about Trio is in the latter
"""
