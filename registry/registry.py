"""A registry maps names to the implementations of one interface. It returns classes and creates no objects."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Generic, TypeVar

from registry.errors import ContractError, DuplicateNameError, RegistryError, UnknownNameError, did_you_mean

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered class."""

    name: str
    target: type[T]

    @property
    def summary(self) -> str:
        """First line of the docstring of the class; empty without a docstring."""
        return inspect.cleandoc(self.target.__doc__ or "").partition("\n")[0]

    @property
    def location(self) -> str:
        """Module and qualified name of the class, e.g. ``package.module.Class``."""
        return f"{self.target.__module__}.{self.target.__qualname__}"

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """Parameters of the constructor without ``self``; they are the JSON schema of the class."""
        return tuple(inspect.signature(self.target.__init__).parameters.values())[1:]


class Registry(Generic[T]):
    """Names of the implementations of one interface.

    Args:
        kind: name of the interface in messages, singular snake_case, e.g. ``"camera_head"``.
        interface: base class of all implementations.
        home: package of the built-in implementations. The first lookup imports it, and the import registers them.
    """

    def __init__(self, kind: str, interface: type[T], home: str | None = None) -> None:
        self.kind, self.interface, self.home = kind, interface, home
        self._entries: dict[str, Entry[T]] = {}
        self._home_loaded = home is None

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: ``@CAMERA_HEADS.register("pi3")``. Returns the class unchanged.

        Raises:
            RegistryError: ``name`` is not snake_case.
            ContractError: the class is no subclass of the interface, is abstract, has no docstring, or its constructor
                has ``*args``, ``**kwargs`` or parameters without annotation.
            DuplicateNameError: another class has this name.
        """
        if not _NAME.fullmatch(name):
            raise RegistryError(f"{self.kind} name {name!r} must be snake_case, e.g. 'pi3' or 'token_mlp'")

        def add(target: type[T]) -> type[T]:
            self._check_contract(name, target)
            old, new = self._entries.get(name), Entry(name, target)
            if old is not None and old.location != new.location:  # the same location is a reload
                raise DuplicateNameError(f"{self.kind} {name!r}: {new.location} clashes with {old.location}")
            self._entries[name] = new
            return target

        return add

    def __getitem__(self, name: str) -> type[T]:
        """The class registered under ``name``.

        Raises:
            UnknownNameError: no class has this name; the message lists similar names and all names.
        """
        self._load_home()
        if name not in self._entries:
            raise UnknownNameError(f"no {self.kind} named {name!r}{did_you_mean(name, self._entries)}")
        return self._entries[name].target

    def __contains__(self, name: object) -> bool:
        self._load_home()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        """Entries in the order of their names."""
        self._load_home()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __len__(self) -> int:
        self._load_home()
        return len(self._entries)

    def name_of(self, target: type) -> str:
        """Registered name of the class ``target``.

        Raises:
            UnknownNameError: the class is not registered.
        """
        for entry in self:
            if entry.target is target:
                return entry.name
        raise UnknownNameError(f"{target.__module__}.{target.__qualname__} is not a registered {self.kind}")

    @contextmanager
    def temporarily(self, name: str, target: type[T]) -> Iterator[None]:
        """Register a class within a ``with`` block, for tests and notebooks."""
        self._load_home()
        before = dict(self._entries)
        self.register(name)(target)
        try:
            yield
        finally:
            self._entries = before

    def _load_home(self) -> None:
        if self.home is not None and not self._home_loaded:
            import_module(self.home)
            self._home_loaded = True  # after a successful import; a failed one runs again

    def _check_contract(self, name: str, target: type[T]) -> None:
        """Check that the signature of the constructor is a complete schema."""
        if not (inspect.isclass(target) and issubclass(target, self.interface)):
            raise ContractError(f"{self.kind} {name!r}: {target!r} must subclass {self.interface.__name__}")
        entry = Entry(name, target)
        where = f"{self.kind} {name!r} ({entry.location})"
        if inspect.isabstract(target):
            missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
            raise ContractError(f"{where} must implement: {missing}")
        if not entry.summary:
            raise ContractError(f"{where} needs a docstring; its first line is shown in the catalogue")
        for parameter in entry.parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ContractError(f"{where}: '{parameter}' would hide misspelt keys; name every parameter")
            if parameter.annotation is parameter.empty:
                raise ContractError(f"{where}: parameter {parameter.name!r} has no type annotation")
