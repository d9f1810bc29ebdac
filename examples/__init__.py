"""Jobs to look at, and the demo that runs them."""
