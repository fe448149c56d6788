"""What this code is measured against, written here, and how both are measured side by side."""
