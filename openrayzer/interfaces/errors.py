"""Errors that have their own answer: input that a user can mend, and scenes that cannot be used."""


class UnposedInputError(ValueError):
    """A model that needs cameras was given images without them."""


class BrokenSceneError(ValueError):
    """A scene or frame that cannot be used; the message names file, scene, frame and fault."""


class UnusableSceneError(ValueError):
    """A scene from which a view sampler cannot choose; not a fault of the data."""


class InputError(ValueError):
    """What the user gave cannot work; tools print the message without a traceback and exit with code 2."""
