"""What a drain returns: how many attempts ended in which way."""

from dataclasses import dataclass, field

from callboard.testing.run_result import RunOutcome


@dataclass(frozen=True, slots=True, repr=False)
class Drained:
    """How many attempts ended in which way. `errors`: one line for each that did not succeed.

    Two values are equal when their counts are: `assert drain() == Drained(succeeded=2, retrying=1)`.
    """

    succeeded: int = 0
    retrying: int = 0
    failed: int = 0
    cancelled: int = 0
    snoozed: int = 0
    errors: tuple[str, ...] = field(default=(), compare=False)

    @property
    def total(self) -> int:
        """How many attempts ran."""
        return sum(getattr(self, outcome) for outcome in RunOutcome)

    def __repr__(self) -> str:
        counts = [f"{outcome}={count}" for outcome in RunOutcome if (count := getattr(self, outcome))]
        return f"Drained({', '.join(counts + [f'errors={list(self.errors)}'] * bool(self.errors))})"
