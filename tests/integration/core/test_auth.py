"""API keys: what is stored, which keys are accepted, which are refused."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.access.api_keys import Auth, Role, require
from callboard.jobs.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from callboard.jobs.model.job_type import JobType
from tests.integration.core.factories import FakeClock, at_once, run_sql, statements


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def auth(platform, clock):
    return Auth(platform.database, clock=clock)


def test_a_new_key_gets_in_and_its_secret_is_kept_nowhere(platform, auth):
    key, token = auth.create("deploy", "Operator", queue="mail")
    assert auth.authenticate(token) == key
    assert (key.name, key.role, key.queue, key.expires_at, key.revoked_at) == (
        "deploy",
        "operator",
        "mail",
        None,
        None,
    )
    secret = token.removeprefix(key.prefix + "_")
    with platform.database.autocommit() as connection:
        stored = connection.execute(text("SELECT to_jsonb(k)::text FROM callboard.api_keys k")).scalar_one()
    assert secret not in stored
    assert token not in repr(key)
    assert auth.every() == [key]


@pytest.mark.parametrize("known", [False, True], ids=["asked for anew", "seen before"])
def test_whoever_has_not_the_secret_stays_out(auth, known):
    key, token = auth.create("deploy", "viewer")
    if known:
        auth.authenticate(token)
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in (
        altered,
        f"{key.prefix}_{'x' * 43}",
        f"cb_{'a' * 12}_{'x' * 43}",
        key.prefix,
        "",
        "\0",
        token + " ",
        "é" * 60,
    ):
        with pytest.raises(Unauthorized):
            auth.authenticate(wrong)


def test_the_refusal_does_not_tell_a_wrong_secret_from_a_key_that_is_none(auth):
    key, _ = auth.create("deploy", "viewer")
    said = set()
    for wrong in (f"{key.prefix}_{'x' * 43}", f"cb_{'a' * 12}_{'x' * 43}"):
        with pytest.raises(Unauthorized) as refusal:
            auth.authenticate(wrong)
        said.add(refusal.value.message)
    assert len(said) == 1


@pytest.mark.parametrize("by", ["name", "prefix", "id"])
def test_a_revoked_key_is_out_at_once_here_and_within_five_seconds_elsewhere(platform, auth, clock, by):
    elsewhere = Auth(platform.database, clock=clock)
    key, token = auth.create("deploy", "admin")
    elsewhere.authenticate(token)
    auth.authenticate(token)
    revoked = auth.revoke(str(getattr(key, by)))
    assert revoked.revoked_at is not None
    with pytest.raises(Unauthorized):
        auth.authenticate(token)
    clock.advance(5)
    with pytest.raises(Unauthorized):
        elsewhere.authenticate(token)
    with pytest.raises(NotFound):
        auth.revoke("deploy")
    auth.create("deploy", "admin")
    assert len(auth.every()) == 2


def test_an_expired_key_is_out(platform, auth, clock):
    key, token = auth.create("deploy", "viewer", expires=timedelta(days=90))
    assert abs(key.expires_at - key.created_at - timedelta(days=90)) < timedelta(seconds=1)
    auth.authenticate(token)
    run_sql(platform, "UPDATE callboard.api_keys SET expires_at = now() - interval '1s'")
    clock.advance(5)
    with pytest.raises(Unauthorized):
        auth.authenticate(token)


def test_a_name_belongs_to_one_key_in_force(auth):
    def create(_):
        try:
            return auth.create("deploy", "viewer")
        except Conflict:
            return None

    assert sum(made is not None for made in at_once(6, create)) == 1


@pytest.mark.parametrize("name", ["", "n" * 101, "a\nb", "\0", "\ud800"])
def test_a_name_that_cannot_be_one_is_invalid_input(auth, name):
    with pytest.raises(InvalidInput):
        auth.create(name, "viewer")
    assert auth.every() == []


@pytest.mark.parametrize("role", ["", "root", "viewer\0", "ADMIN "])
def test_a_role_that_is_none_is_invalid_input(auth, role):
    with pytest.raises(InvalidInput):
        auth.create("deploy", role)


@pytest.mark.parametrize("name", ["nobody", "\0", ""])
def test_nobody_is_revoked_by_a_name_that_is_none(auth, name):
    auth.create("deploy", "viewer")
    with pytest.raises((NotFound, InvalidInput)):
        auth.revoke(name)
    assert [key.revoked_at for key in auth.every()] == [None]


@pytest.mark.parametrize("has", Role)
@pytest.mark.parametrize("needs", Role)
def test_a_role_may_all_that_the_lower_ones_may(auth, has, needs):
    key, _ = auth.create(f"{has.name}-{needs.name}", has.name)
    if has >= needs:
        require(key, needs)
    else:
        with pytest.raises(Forbidden, match=f"requires the role {needs.name.lower()}"):
            require(key, needs)


@pytest.mark.parametrize(
    ("queue", "job"), [("two words", None), ("", None), ("q" * 101, None), (None, "a\nb"), (None, "1st")]
)
def test_a_queue_or_a_job_whose_name_no_job_can_have_is_invalid_input(auth, queue, job):
    with pytest.raises(InvalidInput) as refusal:
        auth.create("deploy", "viewer", queue=queue, job=job)
    assert list(refusal.value.fields) == ["queue" if job is None else "job"]
    assert auth.every() == []


#: The restrictions of a key, and which jobs it sees: by name and queue. `a` is published in `mail`.
SEEN = [
    (None, None, {("a", "mail"), ("a", "other"), ("b", "mail"), ("b", "other")}),
    ("mail", None, {("a", "mail"), ("b", "mail")}),
    (None, "a", {("a", "mail"), ("a", "other")}),
    ("mail", "a", {("a", "mail")}),
]


@pytest.mark.parametrize(("queue", "job", "seen"), SEEN)
def test_each_restriction_of_a_key_applies(auth, queue, job, seen):
    key, token = auth.create("deploy", "admin", queue=queue, job=job)
    assert auth.authenticate(token) == key
    assert (key.queue, key.job, key.confined) == (queue, job, len(seen) < 4)
    jobs = [(name, queue) for name in ("a", "b") for queue in ("mail", "other")]
    assert {one for one in jobs if key.sees_job(*one)} == seen
    assert {one for one in jobs if key.may_enqueue(job_type(*one))} == seen
    # A queue holds other jobs than the key's.
    assert key.sees_queue("mail") is (job is None)
    assert key.sees_queue("other") is (job is None and queue is None)


def job_type(name, queue):
    return JobType(name, queue, {}, 5, 10, None, "")


def test_a_wrong_secret_costs_the_same_queries_whether_its_prefix_exists_or_not(platform, auth):
    key, token = auth.create("deploy", "viewer")
    revoked, _ = auth.create("leaver", "viewer")
    auth.revoke("leaver")
    told = {}
    for cached in (False, True):
        for prefix in (key.prefix, revoked.prefix, "cb_" + "a" * 12):
            with statements(platform) as heard, pytest.raises(Unauthorized):
                auth.authenticate(f"{prefix}_{'x' * 43}")
            told[cached, prefix] = list(heard)
        auth.authenticate(token)
    assert all(heard == told[False, key.prefix] for heard in told.values())
    assert len(told[False, key.prefix]) == 1


def test_only_the_right_secret_is_answered_from_the_cache(platform, auth, clock):
    key, token = auth.create("deploy", "viewer")
    auth.authenticate(token)
    with statements(platform) as heard:
        assert auth.authenticate(token) == key
    assert heard == []
    clock.advance(5)
    with statements(platform) as heard:
        assert auth.authenticate(token) == key
    assert len(heard) == 2
