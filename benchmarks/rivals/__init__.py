"""What we are measured against in every run."""
