"""The choice of the frames of a clip, and of their roles: context or target."""
