"""Records of a training: loggers, console, running means, sample pictures."""
