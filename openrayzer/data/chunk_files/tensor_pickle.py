"""Unpickler for the object tree of ``torch.save`` that returns descriptions of tensors and never runs code.

Python's unpickler calls any function that a file names, and its C version allocates any size that a file states. This
one knows only the opcodes that ``torch.save`` writes for lists, dicts, strings, numbers and tensors, and refuses all
others.

Source of the opcodes: Python's pickletools module; of the tensors: torch/_utils.py, ``_rebuild_tensor_v2``.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_PICKLE_BYTES = 1 << 24
"""Largest object tree; it has space for about 200,000 tensors."""

_MAX_AXES = 64  # NumPy's limit; a file may refer to one shape many times, and each time costs a check

_REBUILD, _ORDERED_DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_DTYPES = {
    "torch ByteStorage": "uint8", "torch CharStorage": "int8", "torch ShortStorage": "int16",
    "torch IntStorage": "int32", "torch LongStorage": "int64", "torch HalfStorage": "float16",
    "torch FloatStorage": "float32", "torch DoubleStorage": "float64", "torch BoolStorage": "bool",
}  # fmt: skip


class PickleRefusedError(ValueError):
    """An object tree that is damaged or holds other objects than plain values and tensors."""


class TensorRecord(NamedTuple):
    """Description of a tensor that has not been read.

    Attributes:
        storage: name of the storage; its entry in the file is ``data/<storage>``.
        dtype: NumPy name of the dtype.
        offset: first element in the storage.
        shape: size of each axis.
        strides: step of each axis in elements.
    """

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        """Whether the elements are consecutive and in order."""
        if 0 in self.shape:  # no elements; torch gives such tensors any strides
            return True
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


class _Mark:
    """Marks the beginning of a list of arguments on the stack."""


_MARK = _Mark()


def read_tree(data: bytes) -> Any:
    """Read ``data``, the ``data.pkl`` of a torch file, into plain values and ``TensorRecord``.

    Raises:
        PickleRefusedError: the object tree is damaged or not plain; the message names the global or the byte.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise PickleRefusedError(f"its object tree has {len(data)} bytes, more than the {MAX_PICKLE_BYTES} allowed")
    machine = _Machine(data)
    try:
        return machine.run()
    except PickleRefusedError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        where = f"byte {machine.position} of {len(data)}"
        raise PickleRefusedError(f"its object tree is damaged near {where}") from error


class _Global(str):
    """Name of a class or function in the file; it is never imported."""

    __slots__ = ()


def _plain_key(key: Any) -> Any:
    """The key of a dict. Tuples are refused: a hundred bytes can describe a nested tuple that takes forever to hash."""
    if isinstance(key, tuple):
        raise TypeError
    return key


class _Machine:
    """The stack machine. The method of an opcode takes no arguments and moves ``position`` past the bytes it reads."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0
        self.stack: list[Any] = []
        self.memo: dict[int | bytes, Any] = {}  # torch uses one-byte names below 256 and four-byte names above

    def run(self) -> Any:
        data, operations = self.data, {code: getattr(self, name) for code, name in _OPERATIONS.items()}
        memo, stack = self.memo, self.stack
        while True:
            code = data[self.position]
            self.position += 1
            # the most frequent opcodes are here for speed: LONG_BINPUT, BINPUT, BINGET, MARK, BININT1
            if code == 0x72:
                memo[data[self.position : self.position + 4]] = stack[-1]
                self.position += 4
            elif code == 0x71:
                memo[data[self.position]] = stack[-1]
                self.position += 1
            elif code == 0x68:
                stack.append(memo[data[self.position]])
                self.position += 1
            elif code == 0x28:
                stack.append(_MARK)
            elif code == 0x4B:
                stack.append(data[self.position])
                self.position += 1
            elif code == 0x2E:  # STOP
                return stack.pop()
            else:
                operation: Callable[[], None] | None = operations.get(code)
                if operation is None:
                    raise PickleRefusedError(
                        f"opcode 0x{code:02x} at byte {self.position - 1} is not one of torch.save"
                    )
                operation()

    def take(self, count: int) -> bytes:
        piece = self.data[self.position : self.position + count]
        if len(piece) < count:
            raise IndexError
        self.position += count
        return piece

    def pop_mark(self) -> list[Any]:
        stack, start = self.stack, len(self.stack) - 1
        while stack[start] is not _MARK:  # without a mark this ends in an IndexError
            start -= 1
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def proto(self) -> None:
        if self.take(1) != b"\x02":
            raise PickleRefusedError("it was saved with an unusual pickle protocol; torch.save writes protocol 2")

    def empty_list(self) -> None:
        self.stack.append([])

    def empty_dict(self) -> None:
        self.stack.append({})

    def empty_tuple(self) -> None:
        self.stack.append(())

    def none(self) -> None:
        self.stack.append(None)

    def true(self) -> None:
        self.stack.append(True)

    def false(self) -> None:
        self.stack.append(False)

    def int2(self) -> None:
        self.stack.append(int.from_bytes(self.take(2), "little"))

    def int4(self) -> None:
        self.stack.append(int.from_bytes(self.take(4), "little", signed=True))

    def long1(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.take(1)[0]), "little", signed=True))

    def float8(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def text(self) -> None:
        length = int.from_bytes(self.take(4), "little")
        self.stack.append(self.take(length).decode("utf-8", "surrogatepass"))

    def tuple1(self) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def tuple2(self) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def tuple3(self) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def tuple_marked(self) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def append(self) -> None:
        item = self.stack.pop()
        self.a(list).append(item)

    def appends(self) -> None:
        items = self.pop_mark()
        self.a(list).extend(items)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.a(dict)[_plain_key(key)] = value

    def set_items(self) -> None:
        items = self.pop_mark()
        self.a(dict).update(zip(map(_plain_key, items[::2]), items[1::2], strict=True))

    def a(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError
        return self.stack[-1]

    def get4(self) -> None:
        self.stack.append(self.memo[self.take(4)])

    def global_name(self) -> None:
        names = []
        for _ in range(2):
            end = self.data.index(b"\n", self.position)
            names.append(self.data[self.position : end].decode("utf-8"))
            self.position = end + 1
        name = " ".join(names)
        if name not in _DTYPES and name not in (_REBUILD, _ORDERED_DICT):
            raise PickleRefusedError(f"it refers to {name.replace(' ', '.')[:80]!r}, which could run code")
        self.stack.append(_Global(name))

    def persistent(self) -> None:
        kind, storage, name, _, _ = self.stack.pop()
        if kind != "storage" or type(storage) is not _Global or type(name) is not str:
            raise TypeError
        self.stack.append((name, _DTYPES[storage]))

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Global:
            raise TypeError
        if name == _ORDERED_DICT:
            self.stack.append({})  # the hooks of a tensor, always empty
            return
        if name != _REBUILD:
            raise TypeError
        (storage, dtype), offset, shape, strides = arguments[:4]
        if len(shape) != len(strides) or len(shape) > _MAX_AXES:
            raise TypeError
        for count in (offset, *shape, *strides):
            if type(count) is not int or count < 0:
                raise TypeError
        self.stack.append(TensorRecord(storage, dtype, offset, shape, strides))


_OPERATIONS = {
    0x80: "proto", 0x5D: "empty_list", 0x7D: "empty_dict", 0x29: "empty_tuple", 0x4E: "none",
    0x88: "true", 0x89: "false", 0x4D: "int2", 0x4A: "int4", 0x8A: "long1", 0x47: "float8",
    0x58: "text", 0x85: "tuple1", 0x86: "tuple2", 0x87: "tuple3", 0x74: "tuple_marked", 0x61: "append",
    0x65: "appends", 0x73: "set_item", 0x75: "set_items", 0x6A: "get4", 0x63: "global_name",
    0x51: "persistent", 0x52: "call",
}  # fmt: skip
