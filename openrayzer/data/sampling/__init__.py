"""Which frames of a scene a clip takes, and which of them are context and target."""
