"""Whether GPUs, machines, links, shared folder and data are fit for a run, in a minute."""
