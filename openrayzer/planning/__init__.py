"""What a run will cost, before it is started: computation, memory, disk, data."""
