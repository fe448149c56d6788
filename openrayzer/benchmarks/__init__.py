"""Speed and memory of this code, measured in turn with baselines that are written here."""
