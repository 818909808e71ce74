"""The public names: listed, documented, and nothing else."""

from __future__ import annotations

import inspect
import types

import pytest

import trionet
import trionet.testing
from tests.signatures import check

PUBLIC = [name for name in trionet.__all__ if not name.startswith("__")]


def test_all_has_each_name_once() -> None:
    """Its order is for ruff to check."""
    assert len(trionet.__all__) == len({*trionet.__all__})


@pytest.mark.parametrize("name", trionet.__all__)
def test_name_exists(name: str) -> None:
    assert hasattr(trionet, name)


@pytest.mark.parametrize("name", PUBLIC)
def test_name_is_documented(name: str) -> None:
    value = getattr(trionet, name)
    if isinstance(value, type) or inspect.isroutine(value):
        doc = value.__dict__.get("__doc__") if isinstance(value, type) else value.__doc__
        assert doc
        # A dataclass without a docstring gets its signature instead.
        assert not doc.startswith(f"{name}(")


@pytest.mark.parametrize("name", [name for name in PUBLIC if isinstance(getattr(trionet, name), type)])
def test_public_methods_are_documented(name: str) -> None:
    cls = getattr(trionet, name)
    for attribute, value in vars(cls).items():
        if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(cls, attribute)), f"{name}.{attribute}"


def test_no_public_name_is_missing() -> None:
    found = {
        name
        for name, value in vars(trionet).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found == {*PUBLIC}


# Programs rely on these, and documentation tells the defaults.
SIGNATURES = """
async serve_rpc(targets, port, *, description=None, allow_parallel=False, allow_terminate=False)
async serve_rpc(targets, port, *, sync_methods='inline', max_message_size=104857600)
async serve_rpc(targets, port, *, host='127.0.0.1', ssl_context=None, listeners=None)
async handle_rpc_stream(stream, targets, *, description=None, allow_parallel=False, allow_terminate=False)
per_connection(factory)
open_rpc_client(host, port, target=..., *, ssl_context=None)
wrap_rpc_stream(stream)
open_best_effort_rpc_client(host, port, target, *, first_timeout=1.0, retry_interval=5.0)
Notifier(structure)
async serve_publisher(notifiers, port, *, max_backlog=..., pyon_version=2, host='127.0.0.1')
open_subscription(host, port, name, *, build=..., reconnect=True)
Broadcaster(max_backlog=1024)
async serve_broadcaster(broadcaster, port, *, host='127.0.0.1', ssl_context=None, listeners=None)
async serve_log_sink(port, *, emit=..., host='127.0.0.1', ssl_context=None, listeners=None)
open_log_forwarder(host, port, *, source)
open_fire_and_forget(target)
remote_exec_targets(name, driver, namespace=None)
open_rig_communicator(uri, *, name=None, echo_timeout=1.0, attempts=1, dedup_window=0.0)
open_rig_listener(uri, *, name=None, echo_timeout=1.0, attempts=1, dedup_window=0.0)
open_rig_services(rigs, *, response_timeout=10.0)
async RigServices.init(data=None, *, concurrent=True, fail_fast=False)
async RigServices.start(exp_ref, data=None, *, concurrent=True, fail_fast=False)
async RigServices.stop(data=None, immediately=False, *, concurrent=True, fail_fast=False)
async RigServices.cleanup(data=None, *, concurrent=True, fail_fast=False)
async RigServices.status(status, *, concurrent=True, fail_fast=False)
async RigServices.info(status, data=None, *, concurrent=True, fail_fast=False)
async RigServices.alyx(client=None)
async RigServices.ready(seconds=10.0)
async RigServices.wait_all(event)
async RigCommunicator.stop(data=None, immediately=False)
async RigCommunicator.wait_event(mask=...)
RigCommunicator.open_events(mask=..., *, max_backlog=...)
async validate_uri(uri, *, resolve_host=True, default_port=11001, default_scheme='udp')
open_piped_process(command)
open_parent_pipe(address)
async serve_objects(namespace, address='tcp://127.0.0.1:*', *, allow_import=(), allow_private=False)
open_object_client(address, *, serializer='msgpack')
open_object_process(name=None, *, allow_import=(), unrestricted=False)
testing.open_virtual_network(*, seed=0, latency=0.0)
testing.VirtualNetwork(*, seed=0, latency=0.0, jitter=0.0, loss=0.0, duplicate=0.0, reorder=0.0)
testing.VirtualNetwork.partition(some, others, *, one_way=False)
"""


@pytest.mark.parametrize("signature", SIGNATURES.split("\n")[1:-1])
def test_it_takes_what_its_documentation_says(signature: str) -> None:
    check(trionet, signature)
