"""Datasets with transforms.json."""
