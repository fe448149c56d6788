"""Building blocks of the networks: attention, transformer blocks, norms, patches and weight initialisation."""
