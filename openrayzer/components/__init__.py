"""Parts of models and losses, each kind in its folder, each part registered by name."""
