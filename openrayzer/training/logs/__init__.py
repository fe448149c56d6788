"""Records of a training run: loggers, console, running means, sample pictures."""
