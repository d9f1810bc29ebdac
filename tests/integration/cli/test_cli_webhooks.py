"""`callboard webhook`: secrets are mended or refused when they are given; deliveries are listed and shown."""

import base64

import pytest

from callboard.jobs.webhooks.delivery import Incoming
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.integration.cli.conftest import SECRET

GITHUB = "it's a secret to everybody"
KEY = bytes(range(200, 225))
STANDARD = "whsec_" + base64.b64encode(KEY).decode()
MENDED = "the secret is stored in its usual form"


def create(callboard, scheme, secret, name="gh", **options):
    return callboard(
        "webhook", "source", "create", name, "--scheme", scheme, "--job", "take_webhook", "--secret", secret,
        "--json", **options,
    )  # fmt: skip


@pytest.fixture
def accepted(platform, callboard):
    """A delivery, whose id was used again with another body."""
    create(callboard, "github", GITHUB)
    intake = platform.intake(SECRET)

    def send(delivery, body):
        headers = {
            **SCHEMES["github"].sign(GITHUB, body),
            "x-github-event": "push",
            "x-github-delivery": delivery,
        }
        return intake.receive(Incoming("gh", headers, body))

    send("d-0", b"{}")
    made = send("d-1", b"{}")
    send("d-1", b"[]")
    intake.close()
    return made


@pytest.mark.parametrize(
    ("scheme", "given", "stored"),
    [
        ("github", f"  {GITHUB}\t", GITHUB), ("github", f"\ufeff{GITHUB}\r\n", GITHUB),
        ("standard-webhooks", f" {STANDARD}", STANDARD), ("standard-webhooks", f"v1,{STANDARD}", STANDARD),
        ("standard-webhooks", STANDARD.rstrip("="), STANDARD), ("standard-webhooks", STANDARD[6:], STANDARD),
        ("standard-webhooks", "whsec_" + base64.urlsafe_b64encode(KEY).decode(), STANDARD),
    ],
)  # fmt: skip
def test_a_secret_that_was_pasted_badly_is_mended_and_the_command_says_so(callboard, scheme, given, stored):
    outcome = create(callboard, scheme, given)
    assert (outcome.code, outcome.json["secret"]) == (0, stored)
    assert MENDED in outcome.err


@pytest.mark.parametrize(("scheme", "secret"), [("github", GITHUB), ("standard-webhooks", STANDARD)])
def test_a_secret_in_its_usual_form_needs_no_words(callboard, scheme, secret):
    inline = create(callboard, scheme, secret)
    assert (inline.json["secret"], MENDED in inline.err) == (secret, False)
    piped = create(callboard, scheme, "-", name="other", stdin=f"{secret}\n")
    assert (piped.json["secret"], MENDED in piped.err) == (secret, False)


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        ("github", "short"), ("github", "a secret of\ntwo lines, each"), ("github", "x" * 257),
        ("standard-webhooks", "whsec_c2hvcnQ="), ("standard-webhooks", "whsk_" + "A" * 44),
        ("standard-webhooks", "a pass phrase, kept by Ada"), ("standard-webhooks", "whsec_" + "A" * 25),
        ("github", "x" * 600),
    ],
)  # fmt: skip
def test_a_secret_of_no_use_is_refused_when_it_is_set_and_not_shown(callboard, scheme, secret):
    outcome = create(callboard, scheme, secret)
    assert (outcome.code, outcome.out) == (2, "")
    assert "secret" in outcome.error
    assert secret[-10:] not in outcome.err
    assert callboard("webhook", "source", "list", "--json").json["items"] == []


def test_deliveries_are_listed_with_their_mismatches(callboard, accepted):
    table = callboard("webhook", "list").out.splitlines()
    assert table[0].split()[:5] == ["ID", "SOURCE", "EVENT", "RECEIVED", "MISMATCHES"]
    assert [line.split()[0] for line in table[2::2]] == ["job", "job"]
    assert len(table) == 5
    assert all(len(line) <= 80 for line in table)
    (listed,) = callboard("webhook", "list", "--source", "gh", "--mismatched", "--json").json["items"]
    assert (listed["id"], listed["mismatch_count"]) == (str(accepted.delivery_id), 1)
    page = callboard("webhook", "list", "--limit", 1, "--json").json
    rest = callboard("webhook", "list", "--cursor", page["next_cursor"], "--json").json
    assert [each["external_id"] for each in page["items"] + rest["items"]] == ["d-1", "d-0"]
    assert rest["next_cursor"] is None


def test_a_delivery_is_shown_with_its_job(callboard, accepted):
    shown = callboard("webhook", "show", accepted.delivery_id)
    assert shown.code == 0
    for part in (str(accepted.job_ids[0]), "d-1", "push", "1: sent again with another body"):
        assert part in shown.out
    document = callboard("webhook", "show", accepted.delivery_id, "--json").json
    assert (document["job_id"], document["source"]) == (str(accepted.job_ids[0]), "gh")


def test_a_kept_body_is_written_byte_by_byte(callboard, platform, tmp_path):
    create(callboard, "github", GITHUB)
    intake = platform.intake(SECRET)
    body = b'{"a": 1, "a": 2}\r\n\x00\xff'
    headers = {**SCHEMES["github"].sign(GITHUB, body), "x-github-event": "push", "x-github-delivery": "d"}
    made = intake.receive(Incoming("gh", headers, body))
    intake.close()
    assert f"{len(body)} bytes" in callboard("webhook", "show", made.delivery_id).out
    file = tmp_path / "body.bin"
    assert callboard("webhook", "body", made.delivery_id, "--output", file).code == 0
    assert file.read_bytes() == body


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list", "--source", "nobody"], 3, "there is no webhook source 'nobody'"),
        (["list", "--cursor", "nonsense"], 2, "the cursor is not one that a list gave out"),
        (["show", "01a223cf-0cea-7164-b077-c4e5379c191c"], 3, "there is no webhook delivery 01a223cf"),
        (["body", "01a223cf-0cea-7164-b077-c4e5379c191c"], 3, "no body is kept for the webhook delivery"),
    ],
)
def test_what_is_not_there_is_an_error_in_one_line(callboard, words, code, said):
    outcome = callboard("webhook", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(said)


def test_without_deliveries_the_list_says_so(callboard):
    assert callboard("webhook", "list").err == "no deliveries match\n"
