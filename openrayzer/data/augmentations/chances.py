"""What several augmentations ask of their parameters."""

from openrayzer.interfaces import InputError


def check_probability(name: str, value: float) -> None:
    """Raises InputError unless ``value`` is a probability."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be from 0 to 1, got {value}")


def check_range(name: str, values: tuple[float, float]) -> None:
    """Raises InputError unless ``values`` are a smallest value above 0 and a largest up to 1."""
    if not 0 < values[0] <= values[1] <= 1:
        raise InputError(f"{name} must be (smallest, largest), above 0 and up to 1, got {values}")
