"""The file of iblrig that says where rigs are, and listening where it says."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import trio

from trionet_compat import guest
from trionet_compat.iblutil.io.net import base
from trionet_compat.iblutil.io.net.app import EchoProtocol

log = logging.getLogger("iblrig.net")

_FILE_NAME: Final = "remote_devices.yaml"

# Seconds to wait for another program that changes the file.
_LOCK_TIMEOUT: Final = 10.0


def get_remote_devices_file(iblrig_settings: Any = None) -> Path | None:
    """Where iblrig's settings say that the file is: None, because these are not read here."""
    return None


def get_remote_devices(
    remote_devices_file: str | os.PathLike[str] | None = None, iblrig_settings: Any = None
) -> dict[str, str] | None:
    """The URIs of rigs by name.

    Args:
        remote_devices_file: A YAML file, or the directory of one that is called ``remote_devices.yaml``.
        iblrig_settings: Not read here.

    Returns:
        What is in the file: None if that is nothing. Empty if there is no file.

    Raises:
        ImportError: without PyYAML, which comes with ``trionet[iblrig]``.
    """
    path = remote_devices_file or get_remote_devices_file(iblrig_settings)
    return _read(_find_file(path)) if path is not None else {}


async def get_server_communicator(
    service_uri: str | bool | None,
    name: str,
    remote_devices_file: str | os.PathLike[str] | None = None,
) -> tuple[EchoProtocol | None, bool]:
    """Be the rig of a name: listen, and see whether that is where others expect it. Asyncio or Trio.

    Args:
        service_uri: Where; False for nowhere; None, True or an empty text for this host and the usual port.
        name: What it is called.
        remote_devices_file: See `check_uri_match`; not an argument of upstream's.

    Returns:
        The communicator, if there is one, and whether it is where it is expected.

    Raises:
        OSError: if it is not possible to listen there.
    """
    if service_uri is False:
        return None, False
    uri = service_uri if isinstance(service_uri, str) and service_uri else str(base.hostname2ip())
    communicator = await EchoProtocol.server(uri, name)
    try:
        return await check_uri_match(communicator, remote_devices_file=remote_devices_file)
    except BaseException:
        communicator.close()
        raise


async def check_uri_match(
    com: EchoProtocol,
    update: bool | None = None,
    remote_devices_file: str | os.PathLike[str] | None = None,
) -> tuple[EchoProtocol, bool]:
    """Compare the URI of a communicator with the one that the file has for its name. Asyncio or Trio.

    Args:
        com: The communicator.
        update: Write the URI into the file if it is another; None if there is a file to write to.
        remote_devices_file: The file, or its directory; not an argument of upstream's, which finds it by its
            settings.

    Returns:
        The communicator, and whether the two were the same.

    Raises:
        FileNotFoundError: if the URI is to be written, and nobody has said to which file.
        ImportError: without PyYAML and filelock, which come with ``trionet[iblrig]``.
    """
    path = remote_devices_file or get_remote_devices_file()
    if path is None:
        if update:
            raise FileNotFoundError("it is not known where the file of remote devices is")
        log.warning("%s is at %s; there is no file of remote devices to compare", com.name, com.server_uri)
        return com, False
    file = _find_file(path)
    expected = (_read(file) or {}).get(com.name)
    if expected is not None and _is_same(expected, com.server_uri):
        return com, True
    log.warning("%s is at %s, but %s says %s", com.name, com.server_uri, file, expected)
    if update is not False:
        write = functools.partial(_write_entry, file, com.name, com.server_uri)
        await guest.run(functools.partial(trio.to_thread.run_sync, write))
    return com, False


def _is_same(expected: str, uri: str) -> bool:
    try:
        return base.validate_uri(expected) == uri
    except ValueError:
        return False


def _find_file(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    return found / _FILE_NAME if found.is_dir() else found


def _read(file: Path) -> dict[str, str] | None:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    entries: dict[str, str] | None = _yaml().safe_load(text)
    return entries


def _write_entry(file: Path, name: str, uri: str) -> None:
    """Change one entry of the file, which others may be reading and changing."""
    try:
        from filelock import FileLock
    except ImportError as error:
        raise ImportError("changing the file of remote devices needs filelock: trionet[iblrig]") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=_LOCK_TIMEOUT):
        entries = {**(_read(file) or {}), name: uri}
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".tmp", delete=False) as changed:
            _yaml().safe_dump(entries, changed, sort_keys=False)
        os.replace(changed.name, file)


def _yaml() -> ModuleType:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("the file of remote devices needs PyYAML: trionet[iblrig]") from error
    module: ModuleType = yaml
    return module
