"""The registered datasets and the code that they share."""
