"""Whether GPUs, machines, links, shared folder and data are fit for a run: a minute, before days are spent."""
