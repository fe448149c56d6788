"""Position encoding "none"."""

from openrayzer.interfaces import POSITION_ENCODINGS, PositionEncoding


@POSITION_ENCODINGS.register("none")
class NoPositionEncoding(PositionEncoding):
    """No position encoding, as in LVSM; the rays in the tokens give the only positions."""
