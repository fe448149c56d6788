"""Clips: where they come from, which views are chosen, how they become batches."""
