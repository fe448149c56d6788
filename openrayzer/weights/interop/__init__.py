"""Weights of published systems, as models of ours; one file a system, ``systems.py`` lists them."""
