"""Data sets made ready: indexed, checked, converted, split, paired, counted."""
