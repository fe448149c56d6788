"""Errors of registries; each message names the fault and the valid choices."""

from collections.abc import Iterable
from difflib import get_close_matches


class RegistryError(Exception):
    """Base class of all errors of this package."""


class UnknownNameError(RegistryError, LookupError):
    """No class has this name."""


class DuplicateNameError(RegistryError):
    """Two different classes have the same name."""


class ContractError(RegistryError, TypeError):
    """The constructor of a class cannot be called with named, typed values."""


class PluginError(RegistryError, ImportError):
    """A plugin does not exist, or its import failed."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name, e.g. ``; did you mean 'pi3'? known: pi3, rot6d``."""
    names = sorted(known)
    close = get_close_matches(given, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ";"
    return f"{hint} known: {', '.join(names) or '(none)'}"
