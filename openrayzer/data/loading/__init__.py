"""From scenes to batches: order, clips, workers, cache, retries."""
