"""The HTTP API: routes that call services, and one form for every error."""
