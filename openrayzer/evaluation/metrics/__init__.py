"""Numbers for images and cameras, and the baselines that they are compared with."""
