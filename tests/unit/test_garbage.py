"""What a process does about garbage once it is loaded."""

import gc

from callboard.config import garbage


def test_what_is_loaded_is_looked_at_no_more_and_collections_are_rarer():
    before = gc.get_threshold()
    try:
        garbage.settle()
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 10_000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_what_is_left_at_the_end_is_not_looked_at():
    try:
        garbage.leave_all()
        assert len(gc.get_objects()) < 1_000
    finally:
        gc.unfreeze()
