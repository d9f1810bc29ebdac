"""Benchmarks: each case beside bare Dramatiq, on the same machine, in the same run.

Start with `python -m benchmarks --help`.
"""
