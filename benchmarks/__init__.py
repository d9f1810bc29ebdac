"""How fast it is: each case beside bare Dramatiq on the same machine, in the same run. `python -m benchmarks --help`."""
