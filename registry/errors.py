"""Every error a registry raises; each message says what was asked, where, and what would work."""

from collections.abc import Iterable
from difflib import get_close_matches


class RegistryError(Exception):
    """Base class: catch this to catch everything raised by this package."""


class UnknownNameError(RegistryError, LookupError):
    """A name that nothing is registered under."""


class DuplicateNameError(RegistryError):
    """Two different implementations claim one name."""


class ContractError(RegistryError, TypeError):
    """An implementation that cannot be built from named, typed values."""


class PluginError(RegistryError, ImportError):
    """A plugin that could not be found or imported."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``; did you mean 'pi3'? known: pi3, rot6d`` - the tail of every unknown-name message."""
    names = sorted(known)
    close = get_close_matches(given, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ";"
    return f"{hint} known: {', '.join(names) or '(none)'}"
