"""What Dramatiq's own tests import from their common.py. Copied beside them under that name."""

import pytest

from tests.contract.dramatiq.stand_in import working

RABBITMQ_USERNAME = RABBITMQ_PASSWORD = ""
RABBITMQ_CREDENTIALS = None
skip_in_ci = skip_on_pypy = skip_on_windows = pytest.mark.skipif(False, reason="neither")


def worker(broker, **options):
    return working(broker, **options)
