"""The arithmetic of the benchmarks: medians, ratios within a round, targets, records."""

import json
import sys
from contextlib import contextmanager

import pytest

from benchmarks import pace, work
from benchmarks.cases import every
from benchmarks.harness import Case, Outcome, Peer, Target, chosen, percentiles, run_case, with_peers
from benchmarks.report import WIDTH, number, table, wording


class NoArena:
    def __init__(self):
        self.resets = 0

    def reset(self):
        self.resets += 1


def scripted(log, subject, *rates):
    """A contender that measures these rates, round by round."""
    left = iter(rates)

    def measure(arena):
        log.append(subject)
        return {"rate": next(left)}

    return measure


def ran(case, rounds=3):
    records = []
    outcome = run_case(case, NoArena(), rounds, records.append)
    return outcome, records


def test_contenders_take_turns_the_other_way_round_every_second_round():
    log = []
    ran(Case("c", "", {"us": scripted(log, "us", 1, 1, 1), "them": scripted(log, "them", 1, 1, 1)}))
    assert log == ["us", "them", "them", "us", "us", "them"]


def test_a_ratio_is_taken_within_each_round_and_the_median_of_those():
    log = []
    # the machine was twice as fast in the second round: a ratio of medians would say 1.5
    case = Case(
        "c", "", {"us": scripted(log, "us", 300, 800, 200), "them": scripted(log, "them", 100, 200, 200)},
        [Target("rate", at_least=3, of="them"), Target("rate", at_least=301), Target("rate", at_most=300)],
    )  # fmt: skip
    outcome, _ = ran(case)
    assert outcome.ratio("rate", "them") == 3
    assert [(one.value, one.met) for one in outcome.verdicts()] == [(3, True), (300, False), (300, True)]
    assert not outcome.failed


def test_a_promise_is_judged_by_its_worst_round_and_fails_the_run():
    log = []
    contenders = {"us": scripted(log, "us", 0, 0, 1)}
    outcome, _ = ran(Case("c", "", contenders, [Target("rate", at_most=0, must=True)]))
    assert outcome.failed
    assert [one.value for one in outcome.verdicts()] == [1]
    assert not Outcome(outcome.case, [{"us": {"rate": 0.0}}], []).failed


def test_a_promise_to_reach_something_is_judged_by_its_least():
    outcome = Outcome(
        Case("c", "", {"us": scripted([], "us")}, [Target("rate", at_least=5, must=True)]),
        [{"us": {"rate": 4.0}}, {"us": {"rate": 9.0}}],
        [],
    )
    assert outcome.failed


def test_a_contender_that_breaks_costs_its_own_figures_alone(capsys):
    def broken(arena):
        raise ValueError("no luck")

    case = Case(
        "c", "", {"us": scripted([], "us", 7), "them": broken}, [Target("rate", at_least=1, of="them")]
    )
    outcome, records = ran(case, 1)
    assert outcome.failures == ["round 1, them: ValueError: no luck"]
    assert outcome.values("us", "rate") == [7]
    assert [one.met for one in outcome.verdicts()] == [None]
    assert outcome.failed
    assert records[1]["error"] == "ValueError: no luck"
    assert "not measured" in table(outcome)
    assert "no luck" in capsys.readouterr().err


def test_nothing_is_divided_by_zero():
    outcome = Outcome(
        Case("c", "", {"us": scripted([], "us")}), [{"us": {"rate": 1.0}, "them": {"rate": 0.0}}], []
    )
    assert outcome.ratio("rate", "them") is None


def test_each_measurement_and_each_target_is_a_record_of_json():
    case = Case("c", "", {"us": scripted([], "us", 1.23456789, 2, 3)}, [Target("rate", at_least=2)])
    _, records = ran(case)
    written = [json.loads(json.dumps(record)) for record in records]
    assert [one["round"] for one in written[:3]] == [1, 2, 3]
    assert written[0]["case"] == "c"
    assert written[0]["subject"] == "us"
    assert written[0]["figures"] == {"rate": 1.2346}
    assert written[3:] == [
        {"case": "c", "target": {"figure": "rate", "at_least": 2}, "value": 2, "met": True}
    ]


def test_what_all_rounds_need_is_made_once_in_an_arena_that_is_empty():
    entered = []

    @contextmanager
    def around(arena):
        entered.append(arena.resets)
        yield

    ran(Case("c", "", {"us": scripted([], "us", 1, 1, 1)}, around=around))
    assert entered == [1]


def test_a_target_has_one_bound():
    for bounds in ({}, {"at_least": 1, "at_most": 2}):
        with pytest.raises(ValueError, match="one bound"):
            Target("rate", **bounds)


def test_peers_join_the_cases_they_name():
    one, other = Case("a", "", {"us": scripted([], "us")}), Case("b", "", {"us": scripted([], "us")})
    target = Target("rate", at_least=1.1, of="peer")
    peer = Peer("peer", lambda: True, {"a": scripted([], "peer")}, {"a": [target]})
    joined = with_peers([one, other], [peer])
    assert [list(case.contenders) for case in joined] == [["us", "peer"], ["us"]]
    assert joined[0].targets == (target,)
    assert joined[0].ours == "us"


def test_cases_are_chosen_by_name_or_by_their_first_word():
    cases = [Case(name, "", {}) for name in ("drain-sync", "drain-async", "drains", "memory")]

    def names(*given):
        return [case.name for case in chosen(cases, given)]

    assert names() == ["drain-sync", "drain-async", "drains", "memory"]
    assert names("memory", "drain", "drain-async") == ["memory", "drain-sync", "drain-async"]
    with pytest.raises(KeyError, match="dra"):
        names("dra")


def test_the_table_fits_a_terminal_and_says_what_was_reached():
    figures = {"rate": 1_234_567.0, "a_figure_with_a_very_long_name": 1.0}
    case = Case("c", "x" * 100, {"us": scripted([], "us"), "a peer with a long name": scripted([], "them")},
                [Target("rate", at_least=1.5, of="a peer with a long name")])  # fmt: skip
    lines = table(Outcome(case, [dict.fromkeys(case.contenders, figures)] * 3, ["y" * 100])).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1.00x  NOT MET" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "said"), [(12345.6, "12,346"), (100, "100"), (9.876, "9.88"), (0, "0"), (0.0004, "0.0004")]
)
def test_numbers_are_shown_with_the_digits_that_mean_something(value, said):
    assert number(value) == said


def test_targets_in_words():
    assert wording(Target("rate", at_least=3.5, of="dramatiq")) == "rate >= 3.5x dramatiq"
    assert wording(Target("p50_ms", at_most=5)) == "p50_ms <= 5"


def test_every_case_has_a_name_of_its_own_and_targets_that_can_be_measured():
    cases = every()
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert len(f"{case.name}: {case.about}") <= WIDTH
        assert all(target.of is None or target.of in case.contenders for target in case.targets)


def test_percentiles_are_values_that_were_measured():
    hundred = [number / 1000 for number in range(100, 0, -1)]
    assert percentiles(hundred) == {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
    assert percentiles([0.002]) == {"p50_ms": 2, "p95_ms": 2, "p99_ms": 2}


class Bookkeeper:
    """A sender that notes what it is told."""

    def __init__(self):
        self.sizes = []

    def noop(self):
        self.sizes.append(1)

    def noops(self, count):
        self.sizes.append(count)

    def picked_up(self, sent):
        assert len(set(sent)) == 1
        self.sizes.append(len(sent))


@pytest.mark.parametrize(
    ("asked", "total"),
    [(("loop", "6", "1"), 6), (("loop", "16", "8"), 16), (("bulk", "30", "10"), 30), (("random", "2", "0.01"), 2),
     (("rate", "500", "0.1"), 50)],
)  # fmt: skip
def test_a_sender_sends_as_many_as_it_is_told(asked, total, monkeypatch, capsys):
    sender = Bookkeeper()
    monkeypatch.setattr(sys, "argv", ["sender", *asked])
    pace.main(sender)
    # the first one connects, and is not timed
    assert sum(sender.sizes) == 1 + total
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"seconds", "cpu"}


def test_computing_is_calibrated_to_about_what_was_asked_for():
    turns = int(work.calibrate(0.001)["BENCH_SPIN"])
    assert work.turn(8) == 28
    assert turns > 100
