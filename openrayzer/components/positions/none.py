"""Position encoding: none."""

from openrayzer.interfaces import POSITION_ENCODINGS, PositionEncoding


@POSITION_ENCODINGS.register("none")
class NoPositionEncoding(PositionEncoding):
    """Tokens do not know where they are, except through the rays they may carry, as in LVSM."""
