"""The domain: one folder for each subject.

It knows nothing of HTTP, the command line or the worker processes.
"""
