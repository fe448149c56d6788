"""Find, read, load, import and export the weights of models."""
