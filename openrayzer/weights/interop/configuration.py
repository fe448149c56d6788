"""A published configuration, asked key by key; what is missing or contradicts the weights is collected."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openrayzer.interfaces import InputError

T = TypeVar("T")
_ABSENT = object()


class Configuration:
    """Values by dotted key, e.g. ``model.transformer.d``, under the names of the published code.

    Args:
        values: nested; empty if there is no configuration file.
        source: where they come from, for messages.
        whole: whether this is all of a configuration, so that what it leaves out takes the published code's default.
        given: keys in ``values`` that a user gave one by one, so that each must be of use.

    Attributes:
        notes: defaults that were taken, one sentence each.
    """

    def __init__(self, values: Mapping[str, Any], *, source: str, whole: bool, given: Sequence[str] = ()) -> None:
        self.values, self.source, self.whole, self.given = values, source, whole, tuple(given)
        self.notes: list[str] = []
        self._asked: dict[str, bool] = {}  # every key that was looked for, and whether it was there
        self._problems: list[str] = []
        self._questions: list[str] = []

    def agree(self, key: str, seen: T) -> T:
        """``seen``, which the weights show; a problem if the configuration says otherwise."""
        said = self._find(key)
        if said is not _ABSENT and said != seen:
            self._problems.append(f"{key}: {self.source} says {said!r}, the weights say {seen!r}")
        return seen

    def ask(self, key: str, choices: Sequence[T], meaning: str, *, otherwise: T | None = None) -> T:
        """What no weight shows; must be configured, as one of ``choices``.

        Args:
            key: where it stands.
            choices: what is known.
            meaning: what a user should understand by it.
            otherwise: what the published code takes where its configuration leaves the key out, if it does.
        """
        said = self._find(key)
        if said is _ABSENT and self.whole and otherwise is not None:
            return self._default(key, otherwise)
        if said is _ABSENT:
            self._questions.append(f"{key} ({meaning}): one of {', '.join(map(_shown, choices))}")
        elif not any(type(said) is type(choice) and said == choice for choice in choices):
            known = ", ".join(map(_shown, choices))
            self._problems.append(f"{key}: {self.source} says {said!r}, known are {known}")
        else:
            return said  # type: ignore[return-value]
        return choices[0]

    def number(self, key: str, meaning: str, *, otherwise: float | None = None) -> float:
        """A number above 0 that no weight shows; must be configured, see ``ask``."""
        return float(self._above_0(key, meaning, (int, float), "a number above 0", otherwise))

    def count(self, key: str, meaning: str) -> int:
        """A whole number above 0 that no weight shows; must be configured."""
        return int(self._above_0(key, meaning, (int,), "a whole number above 0", None))

    def get(self, key: str, default: T) -> T:
        """What is configured, or what the published code takes where it is not."""
        said = self._find(key)
        return default if said is _ABSENT else said  # type: ignore[return-value]

    def problem(self, message: str) -> None:
        """Something else that is wrong."""
        self._problems.append(message)

    def check(self) -> None:
        """Ends the questioning.

        Raises:
            InputError: lists all problems and open questions so far.
        """
        lines = list(self._problems)
        if self._questions:
            lines.append("the weights do not say, so please do, in --config FILE or by --given KEY=VALUE:")
            lines += [f"  {question}" for question in self._questions]
        if lines:
            raise InputError("\n".join(lines))

    def check_used(self) -> None:
        """To be called when everything was asked.

        Raises:
            InputError: something was given one by one that nobody asks for, or nothing of it all is what was asked for,
                as in the configuration of another system.
        """
        known = ", ".join(self._asked)
        stray = [key for key in self.given if key not in self._asked]
        if stray:
            raise InputError(f"--given {', '.join(stray)}: nothing asks for it; known are {known}")
        if self.whole and not any(self._asked.values()):
            raise InputError(f"{self.source} says nothing of what is asked: {known}; is it of another system?")

    def _default(self, key: str, otherwise: T) -> T:
        self.notes.append(f"{key} is not configured: {_shown(otherwise)} is taken, as the published code does")
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
