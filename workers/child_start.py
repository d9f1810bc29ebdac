"""The first code of a worker child's process. The supervisor imports it too, without what a child runs."""

from callboard.config import garbage
from callboard.workers.board import Board
from callboard.workers.child_plan import ChildPlan


def start_child(plan: ChildPlan, board: Board) -> None:
    """Load a worker child and run it to its end."""
    garbage.collect_rarely()
    # Here, because the supervisor needs none of these modules.
    from callboard.workers.child import main

    main(plan, board)
