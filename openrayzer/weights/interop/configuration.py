"""Read a published configuration key by key; collect missing values and contradictions with the weights."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, TypeVar

from openrayzer.interfaces import InputError

T = TypeVar("T")
_ABSENT = object()


class Configuration:
    """A configuration of published code, read by dotted keys such as ``model.transformer.d``.

    Problems are collected; ``check`` raises all of them together.

    Args:
        values: nested dictionaries; empty if there is no configuration file.
        source: name of the file, for messages.
        whole: True for a complete configuration: a missing key then takes the default of the published code.
        given: keys in ``values`` that a user gave one by one; ``check_used`` refuses a key that nothing reads.

    Attributes:
        notes: one sentence for each default that was used.
    """

    def __init__(self, values: Mapping[str, Any], *, source: str, whole: bool, given: Sequence[str] = ()) -> None:
        self.values, self.source, self.whole, self.given = values, source, whole, tuple(given)
        self.notes: list[str] = []
        self._asked: dict[str, bool] = {}  # each key that was read -> whether it was there
        self._problems: list[str] = []
        self._questions: list[str] = []

    def agree(self, key: str, seen: T) -> T:
        """Return ``seen``, a value that the weights show; a configuration that says otherwise is a problem."""
        said = self._find(key)
        if said is not _ABSENT and said != seen:
            self._problems.append(f"{key}: {self.source} says {said!r}, the weights say {seen!r}")
        return seen

    def ask(self, key: str, choices: Sequence[T], meaning: str, *, otherwise: T | None = None) -> T:
        """Return a value that the weights do not show. It must be configured, as one of ``choices``.

        Args:
            key: dotted key.
            choices: the supported values.
            meaning: explanation for the message to the user.
            otherwise: default of the published code for a key that its configuration leaves out; None: no default.
        """
        said = self._find(key)
        if said is _ABSENT and self.whole and otherwise is not None:
            return self._default(key, otherwise)
        if said is _ABSENT:
            self._questions.append(f"{key} ({meaning}): one of {', '.join(map(_shown, choices))}")
        elif not any(type(said) is type(choice) and said == choice for choice in choices):
            known = ", ".join(map(_shown, choices))
            self._problems.append(f"{key}: {self.source} says {said!r}, supported are {known}")
        else:
            return said  # type: ignore[return-value]
        return choices[0]

    def number(self, key: str, meaning: str, *, otherwise: float | None = None) -> float:
        """Return a number above 0 that the weights do not show; it must be configured, see ``ask``."""
        return float(self._above_0(key, meaning, (int, float), "a number above 0", otherwise))

    def real(self, key: str, meaning: str, *, otherwise: float) -> float:
        """Return a finite number of any sign that the weights do not show; it must be configured, see ``ask``."""
        said: Any = self._find(key)
        if said is _ABSENT and self.whole:
            return self._default(key, otherwise)
        if said is _ABSENT:
            self._questions.append(f"{key} ({meaning}): a number")
        elif isinstance(said, int | float) and not isinstance(said, bool) and isfinite(said):
            return float(said)
        else:
            self._problems.append(f"{key}: {self.source} says {said!r}, expected a number")
        return otherwise

    def count(self, key: str, meaning: str) -> int:
        """Return a whole number above 0 that the weights do not show; it must be configured."""
        return int(self._above_0(key, meaning, (int,), "a whole number above 0", None))

    def get(self, key: str, default: T) -> T:
        """Return the configured value, or ``default`` if there is none."""
        said = self._find(key)
        return default if said is _ABSENT else said  # type: ignore[return-value]

    def problem(self, message: str) -> None:
        """Add a problem."""
        self._problems.append(message)

    def check(self) -> None:
        """Check that there are no problems and that every required value is configured.

        Raises:
            InputError: lists all problems and all missing values so far.
        """
        lines = list(self._problems)
        if self._questions:
            lines.append("the weights do not show these values; give them with --config FILE or --given KEY=VALUE:")
            lines += [f"  {question}" for question in self._questions]
        if lines:
            raise InputError("\n".join(lines))

    def check_used(self) -> None:
        """Check that the configuration belongs to this system; call it after all keys were read.

        Raises:
            InputError: a user gave a key that was not read, or the configuration has none of the keys that were read.
        """
        known = ", ".join(self._asked)
        stray = [key for key in self.given if key not in self._asked]
        if stray:
            raise InputError(f"--given {', '.join(stray)}: this system has no such key; its keys are {known}")
        if self.whole and not any(self._asked.values()):
            raise InputError(f"{self.source} has none of these keys: {known}; it seems to belong to another system")

    def _default(self, key: str, otherwise: T) -> T:
        self.notes.append(f"{key} is not configured: uses {_shown(otherwise)}, the default of the published code")
        return otherwise

    def _above_0(
        self,
        key: str,
        meaning: str,
        kinds: tuple[type[int] | type[float], ...],
        expected: str,
        otherwise: float | None,
    ) -> int | float:
        said: Any = self._find(key)
        if said is _ABSENT and self.whole and otherwise is not None:
            return self._default(key, otherwise)
        if said is _ABSENT:
            self._questions.append(f"{key} ({meaning}): {expected}")
        elif isinstance(said, kinds) and not isinstance(said, bool) and said > 0:
            return said
        else:
            self._problems.append(f"{key}: {self.source} says {said!r}, expected {expected}")
        return 1

    def _find(self, key: str) -> Any:
        value: Any = self.values
        for part in key.split("."):
            value = value[part] if isinstance(value, Mapping) and part in value else _ABSENT
        self._asked[key] = value is not _ABSENT
        return value


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
