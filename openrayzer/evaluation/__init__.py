"""What is measured on held-out clips, and what costs nothing and is printed beside it."""
