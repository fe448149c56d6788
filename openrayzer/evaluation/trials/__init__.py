"""Sanity battery, transfer and changed clips."""
