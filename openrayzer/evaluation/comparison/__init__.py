"""Runs and evaluations beside each other, and only like with like."""
