"""Chunks, the .torch files of pixelSplat, and their side index."""
