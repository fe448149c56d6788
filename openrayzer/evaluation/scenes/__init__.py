"""The evaluation of a finished model: protocols, all ranks, one folder with every number and picture."""
