"""The commands of tools/prepare_data.py: each module adds the parser of its command and runs it."""
