"""Log records of several processes in one place."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compat.pyacq_things import in_thread
from tests.compat.test_pyacq_processes import Records
from trionet.objects.log_records import decode_record, encode_record
from trionet_compat.pyacq.core.rpc import log
from trionet_compat.pyacq.core.rpc.log import LogSender, LogServer, RPCLogHandler, names, remote

pytestmark = pytest.mark.usefixtures("own_portal")


@pytest.fixture(autouse=True)
def nothing_global(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names and servers of the process are as at its beginning."""
    monkeypatch.setattr(names._Names, "host", None)
    monkeypatch.setattr(names._Names, "process", None)
    monkeypatch.setattr(names._Names, "threads", {})
    for attribute in ("server", "sender", "address"):
        monkeypatch.setattr(remote._Global, attribute, None)
    yield
    for one in (remote._Global.sender, remote._Global.server):
        if one is not None:
            one.close()
    logging.getLogger().handlers = [
        handler for handler in logging.getLogger().handlers if not isinstance(handler, LogSender)
    ]


def _record(text: str = "text", *args: Any, **attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord("name", logging.WARNING, "file.py", 3, text, args, None)
    vars(record).update(attributes)
    return record


def _sent(*records: logging.LogRecord) -> list[Any]:
    """What arrives of records."""
    found = Records()
    target = logging.Logger("target")
    target.addHandler(found)
    server = LogServer(target)
    server.start()
    sender = LogSender(server.address)
    for record in records:
        sender.handle(record)
    sender.close()
    while len(found.come) < len(records):
        server.join(0.01)
    server.close()
    server.join()
    return found.come


def test_names() -> None:
    assert log.get_thread_name() == f"thread-{threading.get_ident():x}"
    assert log.get_thread_name(0x12) == "thread-12"
    log.set_thread_name("first")
    log.set_thread_name("other", 0x12)
    assert (log.get_thread_name(), log.get_thread_name(0x12)) == ("first", "other")
    assert log.get_process_name().startswith("process-")
    assert log.get_host_name()
    log.set_process_name("process")
    log.set_host_name("host")
    assert (log.get_process_name(), log.get_host_name()) == ("process", "host")


def test_records_arrive_with_the_names_of_where_they_come_from() -> None:
    log.set_process_name("process")
    log.set_host_name("host")
    first, second = _sent(_record("text %d", 3), _record("later", extra=[1, "ä"]))
    assert (first.getMessage(), first.name, first.levelno, first.lineno) == ("text 3", "name", 30, 3)
    assert (first.process_name, first.thread_name, first.host_name) == ("process", "MainThread", "host")
    assert (second.getMessage(), second.extra) == ("later", [1, "ä"])


def test_threads_that_have_a_name() -> None:
    log.set_thread_name("camera")
    assert _sent(_record())[0].thread_name == "camera"
    assert _sent(_record(thread_name="of its own"))[0].thread_name == "of its own"


def test_exceptions_arrive_as_text() -> None:
    try:
        raise ValueError("the text")
    except ValueError:
        record = _record(exc_info=sys.exc_info())
    (arrived,) = _sent(record)
    assert arrived.exc_info is None
    assert arrived.exc_text.endswith("ValueError: the text")


def test_what_cannot_be_sent_arrives_as_its_repr() -> None:
    (arrived,) = _sent(_record("%d", "no number", thing={1, 2}))
    assert "no number" in arrived.getMessage()
    assert arrived.thing == "{1, 2}"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"name": 1}', b'{"name": "a", "levelno": "b"}'])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_record(data)
    assert decode_record(encode_record(_record())).getMessage() == "text"


def test_senders_wait_for_their_server(tmp_path: Any) -> None:
    found = Records()
    target = logging.Logger("target")
    target.addHandler(found)
    address = f"ipc://{tmp_path}/log"
    source = logging.Logger("source")
    sender = LogSender(address, source)
    source.warning("early")
    for text in ("first", "second"):
        server = LogServer(target, address)
        server.start()
        while not found.come:
            server.join(0.01)
        assert "early" in {record.getMessage() for record in found.come} or text == "second"
        server.close()
        server.join()
        found.come.clear()
        if text == "first":
            source.warning(text)
    sender.close()
    source.warning("nobody listens")


def test_a_sender_without_an_address_sends_nothing() -> None:
    sender = LogSender()
    sender.handle(_record())
    sender.flush()
    sender.close()


def test_the_log_server_of_a_process() -> None:
    found = Records()
    target = logging.getLogger("tests.of.the.log.server")
    target.addHandler(found)
    assert log.get_logger_address() is None
    log.start_log_server("tests.of.the.log.server")
    with pytest.raises(Exception, match=r"^A global LogServer has already been created\.$"):
        log.start_log_server(target)
    address = log.get_logger_address()
    assert address is not None
    log.set_logger_address(address)
    with pytest.raises(Exception, match=r"^A global LogSender has already been created\.$"):
        log.set_logger_address(address)
    logging.getLogger("anything").warning("text")
    while not found.come:
        threading.Event().wait(0.01)
    assert found.come[0].getMessage() == "text"
    target.removeHandler(found)


def test_a_handler_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    found = Records()
    target = logging.Logger("target")
    target.addFilter(lambda record: 1 // (record.getMessage() != "bad") > 0)
    target.addHandler(found)
    server = LogServer(target)
    server.start()
    sender = LogSender(server.address)
    for text in ("bad", "good"):
        sender.handle(_record(text))
    while not found.come:
        server.join(0.01)
    sender.close()
    server.close()
    server.join()
    assert [record.getMessage() for record in found.come] == ["good"]
    assert "ZeroDivisionError" in caplog.text


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_handler_sorts_by_time() -> None:
    stream = io.StringIO()
    handler = RPCLogHandler(stream)
    names = {"host_name": "host", "process_name": "process", "thread_name": "thread"}
    now = _record().created + 3600
    handler.handle(_record("second", created=now, **names))
    handler.handle(_record("first", created=now - 1, **names))
    assert stream.getvalue() == ""
    handler.flush_records()
    assert stream.getvalue() == "[host:process:thread] first\n[host:process:thread] second\n"
    handler.close()


def test_the_handler_does_not_compare_records_with_each_other() -> None:
    """Of many records that would take so long that the program, which logs more, stands still."""

    class Record(logging.LogRecord):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = logging.LogRecord.__hash__

    handler = RPCLogHandler(io.StringIO())
    for _ in range(3):
        handler.handle(Record("name", logging.INFO, "path", 3, "text", (), None))
    handler.flush_records()
    assert not handler.records
    handler.close()


def test_the_handler_shows_records_by_itself() -> None:
    stream = io.StringIO()
    handler = RPCLogHandler(stream)
    handler.handle(_record(created=0.0))
    while not stream.getvalue():
        handler.thread.join(0.01)
    assert stream.getvalue() == (
        f"[{log.get_host_name()}:{log.get_process_name()}:{log.get_thread_name()}] text\n"
    )
    stream.close()
    handler.handle(_record())
    handler.close()


def test_the_handler_has_colours_on_terminals() -> None:
    stream = _Terminal()
    handler = RPCLogHandler(stream)
    handler.handle(_record())
    handler.handle(_record("detail", levelno=logging.DEBUG))
    handler.close()
    first, second = stream.getvalue().splitlines()
    assert "\x1b[33mtext\x1b[0m" in first
    assert second.endswith("\x1b[0m detail")


def test_exceptions_that_nobody_catches_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    log.log_exceptions()
    try:
        raise ValueError("the text")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "Unhandled exception:" in caplog.text
    assert "ValueError: the text" in caplog.text
    assert in_thread(log.get_host_name) == log.get_host_name()
