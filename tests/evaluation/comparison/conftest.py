"""Makes ``folders`` importable."""
