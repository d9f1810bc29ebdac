"""Arrays in Postgres's binary form: the server reads back what was put in (the integration half is every
claim and finish).
"""

import subprocess
import sys
from uuid import UUID

import pytest

from callboard.jobs.postgres.rows.binary_arrays import Integers, Texts, Uuids

ONE = UUID("01a2151b-9782-70ea-9014-ae7d14d1d043")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (Uuids([]), "00000000 00000000 00000b86"),
        (Uuids([ONE]), "00000001 00000000 00000b86 00000001 00000001 00000010" + ONE.hex),
        (
            Integers([1, -2]),
            "00000001 00000000 00000017 00000002 00000001 00000004 00000001 00000004 fffffffe",
        ),
        (Texts([b"a", None]), "00000001 00000001 00000019 00000002 00000001 00000001 61 ffffffff"),
        (Texts([b""]), "00000001 00000000 00000019 00000001 00000001 00000000"),
    ],
    ids=["none", "a uuid", "numbers", "a text and a null", "an empty text"],
)
def test_it_is_what_array_recv_reads(array, expected):
    assert array.data == bytes.fromhex(expected)


def test_the_dumpers_are_registered_before_the_first_engine_is_made():
    program = "import callboard.jobs.postgres.database, sys; print('callboard.jobs.postgres.rows.binary_arrays' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
