"""Speed and memory of this code, measured alternately with baselines in this folder."""
