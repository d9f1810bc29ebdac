"""Format the result of a case as a table of 80 columns."""

from collections.abc import Iterator
from statistics import median

from benchmarks.harness import Outcome, Target, Verdict

WIDTH = 80
_LARGE, _SMALL = 100, 0.1


def table(outcome: Outcome) -> str:
    """Return a table of medians, ranges over the rounds and median ratios; then the targets."""
    case = outcome.case
    lines = ["", f"{case.name}: {case.about}"[:WIDTH], "-" * WIDTH]
    lines.append(f"{'':<18}{'figure':<18}{'median':>11}{'min':>10} - {'max':<10}{'ours to it':>10}")
    for subject in case.contenders:
        lines += _rows(outcome, subject)
    lines += [_verdict(one) for one in outcome.verdicts()]
    lines += [f"FAILED {line}"[:WIDTH] for line in outcome.failures]
    return "\n".join(line.rstrip() for line in lines)


def _rows(outcome: Outcome, subject: str) -> Iterator[str]:
    figures = dict.fromkeys(name for one in outcome.rounds for name in one.get(subject, {}))
    for index, figure in enumerate(figures):
        values = outcome.values(subject, figure)
        label = f"{figure} {outcome.case.unit}" if figure == "rate" else figure
        # contenders have different roles, so only the total CPU time is comparable
        no_ratio = subject == outcome.case.ours or figure.startswith("cpu_us_")
        ratio = None if no_ratio else outcome.ratio(figure, subject)
        yield (
            f"{'' if index else subject[:17]:<18}{label[:17]:<18}{number(median(values)):>11}"
            f"{number(min(values)):>10} - {number(max(values)):<10}"
            f"{'' if ratio is None else f'{ratio:.2f}x':>10}"
        )


def _verdict(one: Verdict) -> str:
    if one.value is None:
        result = "not measured"
    else:
        value = f"{one.value:.2f}x" if one.target.of else number(one.value)
        result = f"{value}  {'met' if one.met else 'NOT MET'}"
    return f"{f'target  {wording(one.target)}'[: WIDTH - len(result) - 2]}: {result}"


def wording(target: Target) -> str:
    """Return the target as text: `rate >= 3.5x dramatiq`."""
    sign, bound = (">=", target.at_least) if target.at_least is not None else ("<=", target.at_most)
    return f"{target.figure} {sign} {bound:g}" + (f"x {target.of}" if target.of else "")


def number(value: float) -> str:
    """Return a number with its significant digits: 12,345 or 9.87 or 0.0004."""
    if abs(value) >= _LARGE or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= _SMALL else f"{value:.2g}"
