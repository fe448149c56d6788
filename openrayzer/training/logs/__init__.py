"""What a training tells: loggers, console, running means, sample pictures."""
