"""What a run leaves: find it, read it, load it, exchange it."""
