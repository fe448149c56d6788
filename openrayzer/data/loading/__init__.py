"""From scenes to batches: the order of clips, clips, worker processes, the frame cache, retries."""
