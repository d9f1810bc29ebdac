"""The domain: one folder for each subject.

It does not depend on HTTP, the command line or the worker processes.
"""
