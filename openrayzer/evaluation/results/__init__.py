"""What an evaluation leaves: summary, folder, printed table."""
