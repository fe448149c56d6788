"""Exceptions that callers handle: wrong input, which a user can correct, and unusable scenes, which loading skips."""

from collections.abc import Iterator
from contextlib import contextmanager


class UnposedInputError(ValueError):
    """The input has no cameras, and the model needs them."""


class BrokenSceneError(ValueError):
    """A scene or frame is damaged. The message names the file, the scene, the frame and the fault."""


class UnusableSceneError(ValueError):
    """A view sampler has no choice for an intact scene, for example because the scene is too short."""


class InputError(ValueError):
    """The input of a user is wrong. Tools print the message without a traceback and exit with code 2."""


@contextmanager
def concerning(option: str) -> Iterator[None]:
    """Put ``option: `` before the message of an ``InputError`` that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
