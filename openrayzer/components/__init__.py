"""Components of models and losses. Each kind has a folder, and an experiment names each component by its ``type``."""
