"""The .torch files of pixelSplat and their side index."""
