"""Preparation in parts, on several machines, and the merging of their results."""
