"""Preparation of data sets: index, verify, convert, split, choose pairs, measure overlap, compute statistics."""
