"""Datasets by name, and the code that they share."""
