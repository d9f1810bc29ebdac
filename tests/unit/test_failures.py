"""What a database error means, by its SQLSTATE."""

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from callboard.jobs.errors import Busy, Conflict, Duplicate, InvalidInput, Unavailable
from callboard.jobs.postgres.failures import explained, is_conflict, is_outage, is_stale

OUTAGES = (
    "08000", "08001", "08003", "08004", "08006", "08P01", "53000", "53100", "53200", "53300", "53400",
    "57P01", "57P02", "57P03", "57P04", "58000", "58030", "25006",
)  # fmt: skip
#: Postgres refused one statement or ended one session, and the text that the message must have.
REFUSALS = {
    "57014": "statement_timeout", "55P03": "lock_timeout", "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout", "57P05": "idle_session_timeout", "40001": "40001", "40P01": "40P01",
}  # fmt: skip
CHANGED = ("0A000", "26000", "42P05", "42P18", "42703", "42804", "42846", "22P03", "XX000")


def error_of(state: str) -> DBAPIError:
    class Driver(psycopg.Error):
        sqlstate = state

    found = DBAPIError.instance("SELECT 1", None, Driver("Meldung in irgendeiner Sprache"), psycopg.Error)
    assert isinstance(found, DBAPIError)
    return found


def meaning(state: str) -> Exception:
    return explained(error_of(state), where="db:5432/x", schema="callboard")


@pytest.mark.parametrize("state", OUTAGES)
def test_a_lost_or_stopping_server_is_an_outage(state):
    assert is_outage(error_of(state))
    assert type(meaning(state)) is Unavailable
    assert "db:5432/x" in str(meaning(state))


@pytest.mark.parametrize("state", REFUSALS)
def test_a_refused_statement_is_busy_and_names_the_reason(state):
    assert not is_outage(error_of(state))
    assert type(meaning(state)) is Busy
    assert REFUSALS[state] in str(meaning(state))


@pytest.mark.parametrize("state", CHANGED)
def test_a_changed_table_is_stale_and_no_outage(state):
    assert is_stale(error_of(state))
    assert not is_outage(error_of(state))
    assert type(meaning(state)) is Unavailable
    assert "tables changed" in str(meaning(state))


def test_a_conflict_is_found_in_the_cause_of_our_error():
    error = Busy("x")
    error.__cause__ = error_of("40P01")
    assert is_conflict(error)
    assert not is_conflict(Busy("x"))


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("23505", Duplicate),
        ("23514", Conflict),
        ("22P05", InvalidInput),
        ("22021", InvalidInput),
        ("42501", Unavailable),
    ],
)
def test_a_refused_value_or_a_missing_right_has_its_error(state, kind):
    assert type(meaning(state)) is kind


@pytest.mark.parametrize("state", ["42601", "22012", "P0001"])
def test_an_error_of_the_program_stays_the_drivers_error(state):
    assert isinstance(meaning(state), DBAPIError)
