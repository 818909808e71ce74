"""The numpy constructors that may be typed as arguments.

They are called with values that were parsed before, and with the parameters listed here only. An array
that no message could carry is refused before it takes memory.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

# Bytes; the longest message that a server takes by default has 100 MiB.
_MOST_BYTES: Final = 1 << 28
# One simple type: no list of fields, no text of any length.
_DTYPE: Final = re.compile(r"[<>=|]?[A-Za-z]\w{0,15}")


class NumpyCallError(ValueError):
    """numpy cannot make a value of these arguments."""


def make_dtype(name: str) -> np.dtype[Any]:
    """The type that `name` stands for: ``float32``, ``f4``, ``<i2``, ``float``.

    Raises:
        NumpyCallError: if there is no such type, or if its values have no fixed size.
    """
    if _DTYPE.fullmatch(name):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                dtype = np.dtype(name)
        except (TypeError, ValueError, Warning):
            pass
        else:
            if not dtype.hasobject and dtype.itemsize <= _MOST_BYTES:
                return dtype
    raise NumpyCallError(f"{name[:40]!r} is no dtype that can be used here")


@dataclass(frozen=True, slots=True)
class Constructor:
    """A function of numpy, and how much of it may be used.

    Attributes:
        make: The function.
        parameters: The parameters that may be given, by position or by name.
        needed: How many of them must be given.
        count: From the arguments by name, the number of elements.
    """

    make: Callable[..., Any]
    parameters: tuple[str, ...]
    needed: int
    count: Callable[[dict[str, Any]], float]

    @property
    def dtype_place(self) -> int:
        """Which of the positional arguments is the dtype."""
        return self.parameters.index("dtype")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The array.

        Raises:
            NumpyCallError: if the arguments do not fit.
        """
        given = self._bind(args, kwargs)
        with _numpy_errors():
            dtype: np.dtype[Any] = given.get("dtype", np.dtype(float))
            if self.count(given) * max(dtype.itemsize, 1) > _MOST_BYTES:
                raise NumpyCallError(f"more than {_MOST_BYTES >> 20} MiB, no message can carry that")
            array = self.make(**given)
        if array.dtype.hasobject:
            raise NumpyCallError("the elements have no common type that numpy knows")
        return array

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.parameters):
            raise NumpyCallError(f"takes at most {len(self.parameters)} arguments")
        given = dict(zip(self.parameters, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.parameters:
                raise NumpyCallError(f"has no parameter {name!r} here, but: {', '.join(self.parameters)}")
            if name in given:
                raise NumpyCallError(f"argument {name!r} is given twice")
            given[name] = value
        for name in self.parameters[: self.needed]:
            if name not in given:
                raise NumpyCallError(f"needs {name!r}")
        return given


@contextlib.contextmanager
def _numpy_errors() -> Iterator[None]:
    """Turn whatever numpy raises or warns of into a `NumpyCallError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except NumpyCallError:
        raise
    except Exception as error:
        raise NumpyCallError(str(error).split("\n", 1)[0] or type(error).__name__) from None


def _elements_of_shape(given: dict[str, Any]) -> float:
    shape = given["shape"]
    return math.prod(shape) if isinstance(shape, (tuple, list)) else float(shape)


def _arange(**given: Any) -> Any:
    if "stop" not in given:  # np.arange(5): what is called start is the end
        given["stop"] = given.pop("start")
    return np.arange(given.pop("start", 0), given.pop("stop"), given.pop("step", 1), **given)


def _elements_of_range(given: dict[str, Any]) -> float:
    start, stop = (given["start"], given["stop"]) if "stop" in given else (0, given["start"])
    return float((stop - start) / given.get("step", 1))


def _elements_of_eye(given: dict[str, Any]) -> float:
    return float(given["N"] * given.get("M", given["N"]))


#: By name, as typed after ``np.``.
CONSTRUCTORS: Final[dict[str, Constructor]] = {
    "array": Constructor(np.array, ("object", "dtype"), 1, lambda _: 0),
    "zeros": Constructor(np.zeros, ("shape", "dtype"), 1, _elements_of_shape),
    "ones": Constructor(np.ones, ("shape", "dtype"), 1, _elements_of_shape),
    "full": Constructor(np.full, ("shape", "fill_value", "dtype"), 2, _elements_of_shape),
    "arange": Constructor(_arange, ("start", "stop", "step", "dtype"), 1, _elements_of_range),
    "linspace": Constructor(
        np.linspace, ("start", "stop", "num", "dtype"), 2, lambda given: float(given.get("num", 50))
    ),
    "eye": Constructor(np.eye, ("N", "M", "k", "dtype"), 1, _elements_of_eye),
}


def _scalar(name: str) -> Callable[..., Any]:
    scalar_type = getattr(np, name)

    def make(*args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or not isinstance(args[0], (int, float, complex, str, np.generic)):
            raise NumpyCallError("takes one number")
        with _numpy_errors():
            return scalar_type(args[0])

    return make


_SCALAR_NAMES: Final = (
    *("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "str_"),
)
#: The scalar types by name; ``np.bool`` is how numpy 2 prints ``np.bool_``.
SCALARS: Final[dict[str, Callable[..., Any]]] = {
    **{name: _scalar(name) for name in _SCALAR_NAMES},
    "bool": _scalar("bool_"),
}
#: Values by name.
CONSTANTS: Final[dict[str, Any]] = {
    "nan": math.nan,
    "inf": math.inf,
    "pi": math.pi,
    "e": math.e,
    # numpy 2 prints its truth values so.
    "True_": np.True_,
    "False_": np.False_,
}
