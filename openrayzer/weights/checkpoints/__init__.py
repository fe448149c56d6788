"""Read checkpoints. ``training.checkpointing`` writes them."""
