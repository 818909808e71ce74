"""What a run of a program may leave behind: tasks, timers, sockets, ports, objects."""

from __future__ import annotations

import gc
import math
from collections import Counter

import trio

from trionet.testing import VirtualNetwork


def living_tasks() -> list[str]:
    """The names of all tasks of this run, with those of Trio."""
    names: list[str] = []
    tasks = [trio.lowlevel.current_root_task()]
    for task in tasks:
        if task is not None:
            names.append(task.name)
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return sorted(names)


def check_nothing_pending() -> None:
    """Nobody waits for anything any more but the tasks of Trio; nor does the current task."""
    statistics = trio.lowlevel.current_statistics()
    assert statistics.seconds_to_next_deadline == math.inf
    assert statistics.run_sync_soon_queue_size == 0


def check_idle(network: VirtualNetwork) -> None:
    """Nothing is left on the hosts, nor under way between them; the network is still open."""
    for host in network.hosts:
        assert network.netstat(host) == []
        stack = host.stack
        assert not stack.drivers
        assert not stack.tcp_ports._owners
        assert not stack.udp_ports._owners
    assert not network._fabric._agenda


def look_at_new_objects_only() -> None:
    """From now on, the collector passes over objects that are there: to look at them would take it long."""
    gc.collect()
    gc.freeze()


def objects_of_trionet() -> Counter[str]:
    """How many objects there are of each class of trionet, the virtual network included."""
    gc.collect()
    classes = (type(one) for one in gc.get_objects())
    return Counter(
        f"{one.__module__}.{one.__qualname__}" for one in classes if one.__module__.startswith("trionet.")
    )
