"""Train and run large view synthesis models: RayZer, LVSM and their successors."""

__version__ = "0.1.0"
