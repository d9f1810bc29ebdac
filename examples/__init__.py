"""Example jobs, and the demo that runs them."""
