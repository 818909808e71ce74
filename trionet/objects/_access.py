"""What clients of an object server may reach.

An object that is published is offered with all that its public attributes lead to; Python puts no wall
around that, so the names and types that lead out of it are refused here: private and special attributes
(`__globals__`, `__class__`), modules, the insides of frames and generators. So are methods of types that
clients can bring along as copies: `str.format` would look up any attribute that its text names, and arrays
can write files, or break the memory that they share. Every refusal says which setting would allow it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
from abc import ABC, abstractmethod
from collections import UserString
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from trionet.wire.object_values import ProxyReference

# The special methods that operators and builtin functions stand for: what an object does, not what it is.
_BINARY: Final = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and", "xor", "or"),
)
_OTHERS: Final = (
    *("call", "getitem", "setitem", "delitem", "len", "contains", "iter", "next", "reversed"),
    *("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert", "bool", "int", "float", "complex"),
    *("index", "round", "trunc", "floor", "ceil", "str", "repr", "hash", "doc", "name"),
)
OPERATORS: Final = frozenset(
    f"__{name}__" for name in (*_OTHERS, *(side + name for name in _BINARY for side in ("", "r", "i")))
)
#: Those that are given the name of an attribute.
_SET, _DELETE = "__setattr__", "__delattr__"

_INSIDES: Final = (
    types.FrameType,
    types.CodeType,
    types.TracebackType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
)
_INSIDE_NAMES: Final = ("f_", "co_", "tb_", "gi_", "cr_", "ag_")
# Of what type which names are refused: of the type itself, too, whose methods take any object.
_TRAPS: Final = (
    (str, frozenset({"format", "format_map"})),
    (UserString, frozenset({"format", "format_map"})),
    (np.ndarray, frozenset({"tofile", "dump", "resize", "ctypes"})),
    (np.generic, frozenset({"tofile", "dump"})),
)
_TRAP_NAMES: Final = frozenset().union(*(names for _, names in _TRAPS))
# What belongs to the whole process, and not to an object that was published; and arrays, of which numpy
# checks less when their attributes are changed than when they are made.
_NOT_TO_BE_CHANGED: Final = (
    *(type, types.ModuleType, types.FunctionType, types.MethodType),
    *(np.ndarray, np.dtype),
)


#: Tells the server that owns an object that a connection needs a reference no more. From any thread.
GiveBack = Callable[[ProxyReference], None]


class PassedOn(ABC):
    """What stands for an object of another server."""

    __slots__ = ()

    @abstractmethod
    def _refer(self, receiver: str, give_back: GiveBack | None) -> ProxyReference:
        """The reference to send.

        Args:
            receiver: The address of who gets it.
            give_back: How to give it back there, where the receiver is the owner: to use it is to hold it.
        """


class CallOfPassedOn(ABC):
    """A call of such an object, which is made when it is awaited."""

    __slots__ = ()

    @abstractmethod
    def _withdraw(self) -> None:
        """It will not be made."""


def module_names(allow_import: Iterable[str]) -> frozenset[str]:
    """The names of the modules that clients may import.

    Raises:
        TypeError: for one name, which is several letters.
    """
    if isinstance(allow_import, str):
        raise TypeError(f"allow_import must be several names, not the text {allow_import!r}")
    return frozenset(allow_import)


class Access:
    """The settings of a server, see `serve_objects`."""

    def __init__(
        self,
        *,
        allow_import: Iterable[str],
        allow_private: bool,
        allow_set_item: bool,
        allow_close: bool,
        unrestricted: bool,
    ) -> None:
        self.unrestricted = unrestricted
        self._modules = module_names(allow_import)
        self._private = allow_private or unrestricted
        self._set_item = allow_set_item or unrestricted
        self._close = allow_close or unrestricted

    def import_module(self, name: str) -> types.ModuleType:
        """A module, the innermost of a dotted name.

        Raises:
            PermissionError: if clients may not have it.
            ImportError: if there is none.
        """
        self._check_module(name)
        return importlib.import_module(name)

    def check_set_item(self, name: str) -> None:
        """Raise PermissionError if clients may not publish anything."""
        if not self._set_item:
            raise _refuse(f"publishing {name!r}", "allow_set_item=True")

    def check_close(self) -> None:
        """Raise PermissionError if clients may not end the server."""
        if not self._close:
            raise _refuse("ending the server", "allow_close=True")

    def look_up(self, value: Any, names: Iterable[str]) -> Any:
        """An attribute of an attribute of an object, and so on.

        Raises:
            AttributeError: if there is none.
            PermissionError: if clients may not have it.
        """
        for name in names:
            self._check_relay(value)
            self._check_name(value, name)
            value = getattr(value, name)
            if isinstance(value, types.ModuleType):
                self._check_module(value.__name__)
        return value

    def public_names(self, value: Any) -> list[str]:
        """Names of the attributes of an object that clients may have, private ones aside."""
        return [name for name in dir(value) if not name.startswith("_") and self._is_open(value, name)]

    def _is_open(self, owner: Any, name: str) -> bool:
        try:
            self._check_name(owner, name)
            found = inspect.getattr_static(owner, name, None)
            if isinstance(found, types.ModuleType):
                self._check_module(found.__name__)
        except PermissionError:
            return False
        return True

    def call(self, value: Any, names: tuple[str, ...], args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Call an object, or an attribute of it. Raises as `look_up` does, and what the object raises."""
        if names and names[-1] in (_SET, _DELETE):
            return self._change_attribute(self.look_up(value, names[:-1]), names[-1], *args, **kwargs)
        target = self.look_up(value, names)
        self._check_relay(target)
        result = target(*args, **kwargs)
        if isinstance(result, CallOfPassedOn) and not self.unrestricted and not _is_of_the_program(target):
            result._withdraw()  # an operator of numbers, lists or arrays has turned to its other side
            raise _refuse("calling an object of another server, an argument,", "unrestricted=True")
        return result

    def _change_attribute(self, owner: Any, method: str, /, *values: Any) -> None:
        name, *_ = values or (None,)
        if not isinstance(name, str):
            raise TypeError(f"{method} needs the name of an attribute")
        self._check_relay(owner)
        if isinstance(owner, _NOT_TO_BE_CHANGED):
            self._refuse_unless_unrestricted(f"changing attributes of a {type(owner).__name__}")
        if name.startswith("__"):
            self._refuse_unless_unrestricted(f"the attribute {name!r}")
        self._check_name(owner, name)
        (setattr if method == _SET else delattr)(owner, *values)

    def _check_relay(self, value: Any) -> None:
        """Raise PermissionError if clients may not have this server call another one for them."""
        if isinstance(value, PassedOn):
            self._refuse_unless_unrestricted(f"calling an object of another server, {value!r},")

    def _check_name(self, owner: Any, name: str) -> None:
        if name in _TRAP_NAMES:
            self._check_traps(owner, name)
        if name.startswith(_INSIDE_NAMES) and isinstance(owner, _INSIDES):
            self._refuse_unless_unrestricted(f"{name!r} of a {type(owner).__name__}")
        if not name.startswith("_") or name in OPERATORS:
            return
        if name.startswith("__") and name.endswith("__"):
            self._refuse_unless_unrestricted(f"the attribute {name!r}")
        if not self._private:
            raise _refuse(f"the private attribute {name!r}", "allow_private=True")

    def _check_traps(self, owner: Any, name: str) -> None:
        for kind, names in _TRAPS:
            is_one = issubclass(owner, kind) if isinstance(owner, type) else isinstance(owner, kind)
            if is_one and name in names:
                self._refuse_unless_unrestricted(f"{name!r} of a {kind.__name__}")

    def _check_module(self, name: str) -> None:
        if self.unrestricted:
            return
        parents = name.split(".")
        if not any(".".join(parents[:count]) in self._modules for count in range(1, len(parents) + 1)):
            raise _refuse(f"the module {name!r}", f"allow_import=[{name!r}]")

    def _refuse_unless_unrestricted(self, what: str) -> None:
        if not self.unrestricted:
            raise _refuse(what, "unrestricted=True")


def _is_of_the_program(target: Any) -> bool:
    """Whether a function, or what else is called, was written in Python."""
    while True:
        if isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, types.MethodType):
            target = target.__func__
        elif isinstance(target, types.MethodWrapperType) and target.__name__ == "__call__":
            target = target.__self__
        else:
            break
    called = inspect.getattr_static(type(target), "__call__", None)
    return isinstance(target, types.FunctionType) or isinstance(called, types.FunctionType)


def _refuse(what: str, setting: str) -> PermissionError:
    return PermissionError(f"{what} is nothing for clients of this server: {setting} would allow it")
