"""Results of an evaluation: summary, folder, printed table."""
