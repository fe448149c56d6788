"""Import weights of published systems, and compare our outputs with recordings of theirs."""
