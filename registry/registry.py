"""A registry: the named implementations of one interface. A phone book, not a factory."""

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
    """One registered implementation."""

    name: str
    target: type[T]

    @property
    def summary(self) -> str:
        """First line of the class's own docstring; empty if it has none."""
        return inspect.cleandoc(self.target.__doc__ or "").partition("\n")[0]

    @property
    def location(self) -> str:
        """``module.QualName``: what to grep for."""
        return f"{self.target.__module__}.{self.target.__qualname__}"

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The constructor's parameters, ``self`` excluded: the schema of the component."""
        return tuple(inspect.signature(self.target.__init__).parameters.values())[1:]


class Registry(Generic[T]):
    """Names for the implementations of one interface.

    Args:
        kind: what is registered, singular snake_case, used in messages: ``"camera_head"``.
        interface: the base class that every implementation must subclass.
        home: package imported on first lookup, so that the built-in implementations
            register themselves only when somebody asks for one.
    """

    def __init__(self, kind: str, interface: type[T], home: str | None = None) -> None:
        self.kind, self.interface, self.home = kind, interface, home
        self._entries: dict[str, Entry[T]] = {}
        self._home_loaded = home is None

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: ``@CAMERA_HEADS.register("pi3")``. Returns the class unchanged.

        Raises:
            RegistryError: ``name`` is not snake_case.
            ContractError: the class cannot be built from named, typed values, or lacks a docstring.
            DuplicateNameError: another class holds ``name`` already.
        """
        if not _NAME.fullmatch(name):
            raise RegistryError(f"{self.kind} name {name!r} must be snake_case, e.g. 'pi3' or 'token_mlp'")

        def add(target: type[T]) -> type[T]:
            self._check_contract(name, target)
            old, new = self._entries.get(name), Entry(name, target)
            if old is not None and old.location != new.location:  # same location: a reload, harmless
                raise DuplicateNameError(f"{self.kind} {name!r}: {new.location} clashes with {old.location}")
            self._entries[name] = new
            return target

        return add

    def __getitem__(self, name: str) -> type[T]:
        """The class registered under ``name``.

        Raises:
            UnknownNameError: nothing is; the message lists close matches and every known name.
        """
        self._load_home()
        if name not in self._entries:
            raise UnknownNameError(f"no {self.kind} named {name!r}{did_you_mean(name, self._entries)}")
        return self._entries[name].target

    def __contains__(self, name: object) -> bool:
        self._load_home()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        """Entries in name order, whatever the import order was."""
        self._load_home()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __len__(self) -> int:
        self._load_home()
        return len(self._entries)

    def name_of(self, target: type) -> str:
        """The name under which ``target`` is registered.

        Raises:
            UnknownNameError: it is not.
        """
        for entry in self:
            if entry.target is target:
                return entry.name
        raise UnknownNameError(f"{target.__module__}.{target.__qualname__} is not a registered {self.kind}")

    @contextmanager
    def temporarily(self, name: str, target: type[T]) -> Iterator[None]:
        """Register for the length of a ``with`` block; for tests and notebooks."""
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
            self._home_loaded = True  # only once the import has succeeded

    def _check_contract(self, name: str, target: type[T]) -> None:
        """The signature is the schema, so it must be complete. Fails where the class is written."""
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
                raise ContractError(f"{where}: '{parameter}' would swallow misspelt keys; name every parameter")
            if parameter.annotation is parameter.empty:
                raise ContractError(f"{where}: parameter {parameter.name!r} has no type annotation")
