"""Errors that have their own answer: input that a user can mend, and scenes that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager


class UnposedInputError(ValueError):
    """A model that needs cameras was given images without them."""


class BrokenSceneError(ValueError):
    """A scene or frame that cannot be used; the message names file, scene, frame and fault."""


class UnusableSceneError(ValueError):
    """A scene from which a view sampler cannot choose; not a fault of the data."""


class InputError(ValueError):
    """An input that cannot work. Tools print the message without a traceback and exit with code 2."""


@contextmanager
def concerning(option: str) -> Iterator[None]:
    """Put the name of an option before the message of an ``InputError``."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
