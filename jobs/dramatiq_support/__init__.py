"""What stands between Dramatiq's ways and ours, in producers and workers alike."""
