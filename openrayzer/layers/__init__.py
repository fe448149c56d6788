"""Parts of networks that are not swapped by name."""
