"""iblrig's `Auxiliaries`: ``iblrig_auxiliaries CHECKOUT PORT...``.

Of iblrig only the module `iblrig.net` is loaded: the others need hardware, and their names are stubs here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

from tests.benchmarks.peers._program import run
from tests.benchmarks.peers._pushes import push_to_rigs


class _Stubs(MetaPathFinder, Loader):
    """Finds a module of mocks for what iblrig.net imports and does not need for this."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if package == "one" or (package == "iblrig" and name not in ("iblrig", "iblrig.net")):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Mocks(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Mocks(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


def program(checkout: str, *ports: str) -> None:
    package = ModuleType("iblrig")
    package.__path__ = [str(Path(checkout) / "iblrig")]
    package.__dict__["__version__"] = ""
    sys.modules["iblrig"] = package
    sys.meta_path.insert(0, _Stubs())
    from iblrig import net

    push_to_rigs(net.Auxiliaries, list(ports))


if __name__ == "__main__":
    run(program)
