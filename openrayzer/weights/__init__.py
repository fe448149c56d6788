"""The weights of a run: find, read, load and exchange them."""
