"""The commands of ``openrayzer``: each module has a function for its parser and one that runs it."""
