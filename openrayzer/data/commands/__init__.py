"""The commands of ``openrayzer prepare``: each module adds the parser of its command and runs it."""
