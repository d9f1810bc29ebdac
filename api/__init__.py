"""The HTTP door: routes call services, and everything that goes wrong has one shape."""
