"""The classes of PYON v2: what `{"__jsonclass__": [NAME, ARGS]}` may name, and how it is built.

A class is a name, a function that turns a value into its arguments, and one that builds the value from
them. Types are matched exactly, as upstream does; only the JSON types accept subclasses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from trionet.pyon import _arrays
from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._hashed import make_dict, make_set

#: The key that marks an object as a class. No dict that is encoded may have it.
CLASS_KEY: Final = "__jsonclass__"


@dataclass(frozen=True, slots=True)
class PyonClass:
    """One class of the wire form."""

    name: str
    encode: Callable[[Any], Iterable[Any]]
    decode: Callable[..., Any]
    #: How many arguments there are; None leaves it to `decode`, as for custom classes.
    arity: int | None = None

    def build(self, args: list[Any]) -> Any:
        """The value that these arguments describe.

        Raises:
            PyonDecodeError: if they do not fit the class, whatever its decoder raised.
        """
        if self.arity is not None and len(args) != self.arity:
            raise PyonDecodeError(f"class {self.name!r} takes {self.arity} argument(s), not {len(args)}")
        try:
            return self.decode(*args)
        except PyonDecodeError:
            raise
        except Exception as error:
            raise PyonDecodeError(f"class {self.name!r}: {type(error).__name__}: {error}") from error


class ClassTable:
    """The classes by type, for encoding, and by name, for decoding."""

    def __init__(self) -> None:
        self.by_type: dict[type, PyonClass] = {}
        self.by_name: dict[str, PyonClass] = {}

    def register(self, types: Iterable[type], pyon_class: PyonClass) -> None:
        """Add a class; either all of it or, with a ValueError, nothing."""
        wanted = tuple(types)
        if pyon_class.name in self.by_name:
            raise ValueError(f"PYON class {pyon_class.name!r} is registered already")
        for cls in wanted:
            if cls in self.by_type or cls in _JSON_TYPES:
                raise ValueError(f"{cls.__qualname__} has a PYON form already")
        self.by_name[pyon_class.name] = pyon_class
        self.by_type.update(dict.fromkeys(wanted, pyon_class))

    def deregister(self, types: Iterable[type], name: str) -> None:
        """Take back what `register` added; KeyError if it is not there as given."""
        wanted = tuple(types)
        pyon_class = self.by_name[name]
        for cls in wanted:
            if self.by_type.get(cls) is not pyon_class:
                raise KeyError(cls)
        if name in _BUILTIN_NAMES:
            raise ValueError(f"PYON class {name!r} is part of PYON")
        del self.by_name[name]
        for cls in wanted:
            del self.by_type[cls]

    def build(self, spec: Any) -> Any:
        """The value of an object whose class key holds `spec`."""
        if type(spec) is not list or len(spec) != 2 or type(spec[0]) is not str or type(spec[1]) is not list:
            raise PyonDecodeError(f"{CLASS_KEY!r} must hold a list of a class name and a list of arguments")
        pyon_class = self.by_name.get(spec[0])
        if pyon_class is None:
            raise PyonDecodeError(f"unknown class {spec[0][:100]!r}")
        return pyon_class.build(spec[1])


_JSON_TYPES = frozenset({type(None), bool, int, float, str, list, dict})


def _items(value: Any) -> list[Any]:
    if type(value) is not list:
        raise PyonDecodeError(f"expected a list, not {type(value).__name__}")
    return value


def _decode_dict(pairs: Any) -> dict[Any, Any]:
    for pair in _items(pairs):
        if type(pair) is not list or len(pair) != 2:
            raise PyonDecodeError("expected a list of pairs")
    return make_dict([key for key, _ in pairs], [value for _, value in pairs])


def _decode_complex(real: Any, imag: Any) -> complex:
    if type(real) not in (int, float) or type(imag) not in (int, float):
        raise PyonDecodeError("the parts of a complex number must be numbers")
    return complex(real, imag)


def _decode_fraction(numerator: Any, denominator: Any) -> Fraction:
    if type(numerator) is not int or type(denominator) is not int or denominator == 0:
        raise PyonDecodeError("a Fraction takes two whole numbers, the second not zero")
    return Fraction(numerator, denominator)


def _decode_bytes(text: Any) -> bytes:
    if type(text) is not str:
        raise PyonDecodeError(f"expected base64 text, not {type(text).__name__}")
    return _arrays.decode_base64(text)


def _decode_array(shape: Any, dtype: Any, text: Any) -> np.ndarray[Any, Any]:
    if type(text) is not str:
        raise PyonDecodeError(f"expected base64 text, not {type(text).__name__}")
    return _arrays.decode_array(shape, dtype, text)


def _decode_scalar(dtype: Any, text: Any) -> np.generic:
    if type(text) is not str:
        raise PyonDecodeError(f"expected base64 text, not {type(text).__name__}")
    return _arrays.decode_scalar(dtype, text)


def _encode_array(array: np.ndarray[Any, Any]) -> tuple[list[int], str, str]:
    data = _arrays.array_bytes(array)
    # A structured dtype has the string of one of plain bytes: the field names are lost, as upstream.
    return list(array.shape), array.dtype.str, "".join(_arrays.base64_pieces(data))


def _encode_scalar(scalar: np.generic) -> tuple[str, str]:
    if scalar.dtype.hasobject:  # a void with such fields: its bytes are pointers
        raise TypeError("numpy scalars with object fields have no PYON form")
    # numpy.bytes_(b"") has no bytes, but tobytes() gives one.
    return scalar.dtype.str, _arrays.encode_base64(scalar.tobytes() if scalar.dtype.itemsize else b"")


def _pair_list(value: dict[Any, Any]) -> tuple[list[list[Any]]]:
    return ([[key, item] for key, item in value.items()],)


#: numpy's scalars. Not float64 and str_, which are Python floats and strings and travel as such; not the
#: long doubles, which upstream refuses.
SCALAR_TYPES: Final[tuple[type[np.generic], ...]] = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.complex64, np.complex128),
    *(np.datetime64, np.timedelta64, np.bytes_, np.void),
)

#: How a dict with a key that is not a str is written; chosen by its keys, not by its type.
DICT_CLASS: Final = PyonClass("dict", _pair_list, _decode_dict, 1)
TUPLE_CLASS: Final = PyonClass("tuple", lambda value: (list(value),), lambda items: tuple(_items(items)), 1)

_BUILTIN: tuple[tuple[tuple[type, ...], PyonClass], ...] = (
    ((tuple,), TUPLE_CLASS),
    ((), DICT_CLASS),
    ((set,), PyonClass("set", lambda value: (list(value),), lambda items: make_set(_items(items)), 1)),
    ((slice,), PyonClass("slice", lambda value: (value.start, value.stop, value.step), slice, 3)),
    ((complex,), PyonClass("complex", lambda value: (value.real, value.imag), _decode_complex, 2)),
    (
        (Fraction,),
        PyonClass("Fraction", lambda value: (value.numerator, value.denominator), _decode_fraction, 2),
    ),
    ((bytes,), PyonClass("bytes", lambda value: (_arrays.encode_base64(value),), _decode_bytes, 1)),
    # Read only: an OrderedDict is a dict subclass and written as an object, like upstream.
    ((), PyonClass("OrderedDict", _pair_list, lambda pairs: OrderedDict(_decode_dict(pairs)), 1)),
    ((np.ndarray,), PyonClass("nparray", _encode_array, _decode_array, 3)),
    (SCALAR_TYPES, PyonClass("npscalar", _encode_scalar, _decode_scalar, 2)),
)
_BUILTIN_NAMES = frozenset(pyon_class.name for _, pyon_class in _BUILTIN)

#: The classes that `encode` and `decode` know. Like a codec registry it belongs to the process: both ends
#: of a connection must know a custom class, and a connection does not say whose it is.
CLASSES: Final = ClassTable()
for _types, _class in _BUILTIN:
    CLASSES.register(_types, _class)
