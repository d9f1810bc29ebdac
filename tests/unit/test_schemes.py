"""Webhook signatures: the providers' own test vectors pass, and a request with a changed byte is refused."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import InvalidInput, Unauthorized
from callboard.jobs.webhooks.schemes import SCHEMES, Scheme
from callboard.jobs.webhooks.schemes.github import GitHub
from callboard.jobs.webhooks.schemes.standard import TOLERANCE, StandardWebhooks

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "webhooks.json").read_text())
KNOWN = [vector for vector in VECTORS if vector["scheme"] in SCHEMES]
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BODY = b'{"type": "invoice.paid", "n": 1}'

github = GitHub()
standard = StandardWebhooks()
OLD, NEW, OTHER = standard.new_secret(), standard.new_secret(), standard.new_secret()


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def github_request(secret: str, body: bytes = BODY, **extra: str) -> dict[str, str]:
    return github.sign(secret, body) | {"x-github-delivery": "d-1", "x-github-event": "push"} | extra


def standard_request(
    *secrets: str, at: datetime = NOW, body: bytes = BODY, message_id: str = "msg_1"
) -> dict[str, str]:
    return standard.sign(secrets or (NEW,), message_id, at, body)


@pytest.mark.parametrize("vector", KNOWN, ids=lambda vector: vector["source"])
def test_the_providers_own_vectors_pass(vector):
    scheme: Scheme = SCHEMES[vector["scheme"]]
    assert scheme.clean_secret(vector["secret"]) == vector["secret"]
    now = datetime.fromtimestamp(vector.get("now", 0), UTC)
    assert vector["valid"]
    scheme.authenticate(lower(vector["headers"]), vector["body"].encode(), [vector["secret"]], now)


@pytest.mark.parametrize("vector", KNOWN, ids=lambda vector: vector["source"])
def test_every_altered_byte_of_a_vector_is_noticed(vector):
    scheme, body = SCHEMES[vector["scheme"]], vector["body"].encode()
    now = datetime.fromtimestamp(vector.get("now", 0), UTC)
    for position in range(len(body)):
        altered = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        with pytest.raises(Unauthorized):
            scheme.authenticate(lower(vector["headers"]), altered, [vector["secret"]], now)


def test_the_table_holds_each_scheme_under_its_own_name():
    assert {"github", "standard-webhooks"} <= set(SCHEMES)
    assert all(name == scheme.name for name, scheme in SCHEMES.items())


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_new_secret_is_usable_and_never_the_same(scheme):
    first, second = scheme.new_secret(), scheme.new_secret()
    assert scheme.clean_secret(first) == first
    assert first != second


@settings(deadline=None)
@given(body=st.binary(max_size=200), position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_altered_byte_of_any_body_passes(body, position, flip):
    secret = github.new_secret()
    at = position % (len(body) + 1)
    altered = body[:at] + (bytes([body[at] ^ flip]) + body[at + 1 :] if at < len(body) else bytes([flip]))
    with pytest.raises(Unauthorized):
        github.authenticate(github.sign(secret, body), altered, [secret], NOW)
    with pytest.raises(Unauthorized):
        standard.authenticate(standard_request(body=body), altered, [NEW], NOW)


@settings(deadline=None)
@given(data=st.data())
def test_no_altered_character_of_a_header_passes(data):
    headers = data.draw(st.sampled_from([github_request(NEW), standard_request()]))
    scheme = github if "x-hub-signature-256" in headers else standard
    signed = [name for name in headers if not name.startswith("x-github")]
    name = data.draw(st.sampled_from(signed))
    value = headers[name]
    position = data.draw(st.integers(0, len(value) - 1))
    replacement = data.draw(st.characters(codec="latin-1").filter(lambda char: char != value[position]))
    altered = value[:position] + replacement + value[position + 1 :]
    if altered.strip(" \t") == value or (
        scheme is github and altered[:7] == value[:7] and altered.lower() == value
    ):
        return
    with pytest.raises(Unauthorized):
        scheme.authenticate(headers | {name: altered}, BODY, [NEW], NOW)


@settings(deadline=None)
@given(headers=st.dictionaries(
    st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x-hub-signature-256"]),
    st.text(),
), body=st.binary(max_size=50))  # fmt: skip
def test_whatever_is_sent_the_answer_is_unauthorized_and_nothing_else(headers, body):
    for scheme in (github, standard):
        with pytest.raises(Unauthorized):
            scheme.verify(headers, body, [NEW], NOW)


class TestGitHub:
    def test_a_delivery_has_its_id_and_its_event(self):
        verified = github.verify(github_request(NEW), BODY, [NEW], NOW)
        assert (verified.external_id, verified.event, verified.handshake) == ("d-1", "push", False)

    def test_a_ping_is_a_handshake(self):
        assert github.verify(github_request(NEW, **{"x-github-event": "ping"}), BODY, [NEW], NOW).handshake

    def test_every_active_secret_verifies_and_no_other(self):
        for secret in (OLD, NEW):
            assert github.verify(github_request(secret), BODY, [OLD, NEW], NOW)
        with pytest.raises(Unauthorized):
            github.verify(github_request(OTHER), BODY, [OLD, NEW], NOW)

    def test_a_secret_that_cannot_be_read_neither_verifies_nor_hinders(self):
        assert github.verify(github_request(NEW), BODY, ["", "short", NEW], NOW)

    def test_an_empty_secret_signs_nothing(self):
        headers = {
            "x-hub-signature-256": "sha256=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
        }
        with pytest.raises(Unauthorized):  # the HMAC of nothing under no key, which anyone can compute
            github.authenticate(headers, b"", [""], NOW)

    @pytest.mark.parametrize("secrets", [[], [""], ["short"]])
    def test_no_usable_secret_means_no(self, secrets):
        with pytest.raises(Unauthorized):
            github.verify(github_request(NEW), BODY, secrets, NOW)

    @pytest.mark.parametrize(
        "value", ["", "sha256=", "sha1=" + "0" * 40, "0" * 64, "sha256=" + "é" * 64, "s" * 9_999]
    )
    def test_a_signature_of_another_form_is_named(self, value):
        with pytest.raises(Unauthorized, match="x-hub-signature-256"):
            github.verify(github_request(NEW) | {"x-hub-signature-256": value}, BODY, [NEW], NOW)

    def test_upper_case_hex_is_the_same_signature(self):
        headers = github_request(NEW)
        upper = "sha256=" + headers["x-hub-signature-256"][7:].upper()
        assert github.verify(headers | {"x-hub-signature-256": upper}, BODY, [NEW], NOW)

    def test_a_signature_that_is_given_twice_is_named(self):
        headers = github_request(NEW)
        twice = "\n".join([headers["x-hub-signature-256"]] * 2)
        with pytest.raises(Unauthorized, match="x-hub-signature-256 header is given more than once"):
            github.verify(headers | {"x-hub-signature-256": twice}, BODY, [NEW], NOW)

    @pytest.mark.parametrize("value", ["", " ", "d" * 201, "d\x00", "dé", "d\nd"])
    @pytest.mark.parametrize("name", ["x-github-delivery", "x-github-event"])
    def test_an_id_or_event_that_is_missing_or_unusable_is_bad_input(self, name, value):
        with pytest.raises(InvalidInput, match=name):
            github.verify(github_request(NEW, **{name: value}), BODY, [NEW], NOW)

    def test_the_signature_is_judged_before_the_id(self):
        with pytest.raises(Unauthorized):
            github.verify(github_request(OTHER, **{"x-github-delivery": ""}), BODY, [NEW], NOW)

    @pytest.mark.parametrize("text", ["", "x" * 15, "x" * 257, "x" * 20 + "\x00", "\ud800" * 20])
    def test_an_unusable_secret_is_refused_without_being_shown(self, text):
        with pytest.raises(InvalidInput) as caught:
            github.clean_secret(text)
        assert "xxx" not in str([caught.value.message, caught.value.fields])
        assert "secret" in caught.value.fields

    @pytest.mark.parametrize("before", ["", " ", "\n", "\t \r\n", "\ufeff", "\u200b\xa0"])
    @pytest.mark.parametrize("after", ["", " ", "\n", "\r\n", "\u2028\u200b"])
    def test_what_is_pasted_around_a_secret_is_removed(self, before, after):
        assert github.clean_secret(f"{before}It's a Secret, to all{after}") == "It's a Secret, to all"


class TestStandardWebhooks:
    def test_a_delivery_has_its_id_and_the_type_in_its_body(self):
        verified = standard.verify(standard_request(), BODY, [NEW], NOW)
        assert (verified.external_id, verified.event, verified.handshake) == ("msg_1", "invoice.paid", False)

    @pytest.mark.parametrize(
        ("body", "event"),
        [
            (b"", ""), (b"not json", ""), (b"[1]", ""), (b"3", ""), (b'{"type": 3}', ""), (b'{"a": 1}', ""),
            (b'{"type": "a\\u0000b"}', ""), (b'{"type": "\\ud800"}', ""), (b"\xff\xfe", ""),
            (json.dumps({"type": "t" * 201}).encode(), ""),
            (json.dumps({"type": "t" * 200}).encode(), "t" * 200),
            (b"[" * 5_000, ""),
        ],
    )  # fmt: skip
    def test_a_body_that_names_no_storable_type_has_no_event(self, body, event):
        assert standard.verify(standard_request(body=body), body, [NEW], NOW).event == event

    @pytest.mark.parametrize("drift", [timedelta(0), TOLERANCE, -TOLERANCE])
    def test_a_timestamp_within_five_minutes_passes(self, drift):
        assert standard.verify(standard_request(at=NOW + drift), BODY, [NEW], NOW)

    @pytest.mark.parametrize(
        ("drift", "where"),
        [(-TOLERANCE - timedelta(seconds=1), "past"), (TOLERANCE + timedelta(seconds=1), "future")],
    )
    def test_a_timestamp_beyond_five_minutes_is_refused(self, drift, where):
        with pytest.raises(Unauthorized, match=f"webhook-timestamp.*{where}"):
            standard.verify(standard_request(at=NOW + drift), BODY, [NEW], NOW)

    @pytest.mark.parametrize("value", ["", "x", "1.5", "-5", "+5", "1e9", "١٢٣", "9" * 12, "1761998400 ,"])
    def test_a_timestamp_that_is_no_whole_number_is_named(self, value):
        with pytest.raises(Unauthorized, match="webhook-timestamp"):
            standard.verify(standard_request() | {"webhook-timestamp": value}, BODY, [NEW], NOW)

    def test_an_old_request_cannot_be_given_a_new_time(self):
        headers = standard_request(at=NOW - timedelta(days=1))
        with pytest.raises(Unauthorized, match="webhook-signature"):
            standard.verify(headers | {"webhook-timestamp": str(int(NOW.timestamp()))}, BODY, [NEW], NOW)

    def test_every_active_secret_verifies_and_no_other(self):
        for secret in (OLD, NEW):
            assert standard.verify(standard_request(secret), BODY, [OLD, NEW], NOW)
        with pytest.raises(Unauthorized):
            standard.verify(standard_request(OTHER), BODY, [OLD, NEW], NOW)

    def test_a_sender_that_rotates_may_sign_with_both_its_secrets(self):
        headers = standard_request(OTHER, NEW)
        assert headers["webhook-signature"].count("v1,") == 2
        assert standard.verify(headers, BODY, [NEW], NOW)

    def test_signatures_of_other_versions_are_ignored(self):
        headers = standard_request()
        genuine = headers["webhook-signature"]
        assert standard.verify(headers | {"webhook-signature": f"v1a,AAAA {genuine} v2,x"}, BODY, [NEW], NOW)
        with pytest.raises(Unauthorized):
            standard.verify(headers | {"webhook-signature": genuine.replace("v1,", "v2,")}, BODY, [NEW], NOW)

    def test_the_other_spelling_of_the_same_base64_is_not_the_signature(self):
        headers = standard_request()
        text = headers["webhook-signature"]
        last = text[-2]
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        twin = text[:-2] + alphabet[alphabet.index(last) ^ 1] + "="
        assert base64.b64decode(twin[3:]) == base64.b64decode(text[3:])
        with pytest.raises(Unauthorized):
            standard.verify(headers | {"webhook-signature": twin}, BODY, [NEW], NOW)

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_a_missing_header_is_named(self, name):
        headers = standard_request()
        del headers[name]
        with pytest.raises(Unauthorized, match=f"{name} header is missing"):
            standard.verify(headers, BODY, [NEW], NOW)

    def test_an_id_that_is_too_long_is_bad_input_once_it_is_genuine(self):
        headers = standard_request(message_id="m" * 201)
        with pytest.raises(InvalidInput, match="webhook-id"):
            standard.verify(headers, BODY, [NEW], NOW)
        with pytest.raises(Unauthorized):
            standard.verify(headers, BODY, [OTHER], NOW)

    def test_an_id_with_a_full_stop_cannot_be_told_from_its_timestamp(self):
        with pytest.raises(Unauthorized, match="full stop"):
            standard.verify(standard_request(message_id="a.b"), BODY, [NEW], NOW)

    @pytest.mark.parametrize(
        "text",
        [
            "", "whsec_", "whsec_!!!!", "whsec_" + "é" * 24, "whsec_" + base64.b64encode(b"x" * 15).decode(),
            "whsec_" + base64.b64encode(b"x" * 129).decode(), base64.b64encode(b"x" * 24).decode(),
            " " + "whsec_" + base64.b64encode(b"x" * 24).decode(),
        ],
    )  # fmt: skip
    def test_a_secret_of_another_form_verifies_nothing(self, text):
        with pytest.raises(Unauthorized):
            standard.verify(standard_request(), BODY, [text], NOW)

    def test_a_mended_secret_has_the_usual_form(self):
        key = bytes(range(200, 225))
        plain, url_safe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
        assert plain != url_safe
        assert plain.endswith("=")
        for digits in (plain, plain.rstrip("="), url_safe, url_safe.rstrip("=")):
            bare = [] if digits.startswith(url_safe.rstrip("=")) else [""]
            for prefix in ("whsec_", "v1,whsec_", "whsec_whsec_", *bare):
                for around in ("", " ", "\n", "\r\n\t", "\ufeff"):
                    secret = standard.clean_secret(f"{around}{prefix}{digits}{around}")
                    assert secret == f"whsec_{plain}"
                    assert standard.clean_secret(secret) == secret

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "empty"), (" ", "empty"), ("whsec_", "empty"), ("v1,whsec_==", "empty"),
            ("whsec_!!!!", "not base64"), ("whsec_" + "é" * 24, "not base64"), ("whsec_" + "A" * 33, "not base64"),
            ("whsec_" + "A" * 20 + " " + "A" * 20, "not base64"),
            ('"whsec_' + "A" * 32 + '"', "does not begin with"),
            ("sk_live_abcdefghijklmnopqrstuv", "does not begin with"), ("WHSEC_" + "A" * 32, "does not begin with"),
            ("whsec-" + "A" * 32, "does not begin with"), ("passwordpasswordpasswo", "last character"),
            ("whsec_" + "A" * 20 + "\n" + "A" * 20, "not base64"),
            ("A" * 20, "has 15 bytes"), ("whsec_" + base64.b64encode(b"x" * 129).decode(), "has 129 bytes"),
            ("whsk_" + "A" * 32, "asymmetric"), ("whpk_" + "A" * 32, "asymmetric"),
            ("v1," + "A" * 43 + "=", "not base64"), ("a pass phrase of some length", "not base64"),
        ],
    )  # fmt: skip
    def test_a_secret_that_cannot_be_mended_is_refused_with_the_reason(self, text, said):
        with pytest.raises(InvalidInput, match=said) as caught:
            standard.clean_secret(text)
        assert "secret" in caught.value.fields
        assert len(text) < 20 or text.strip()[-12:] not in str([caught.value.message, caught.value.fields])

    def test_the_names_of_svix_work(self):
        headers = standard_request()
        svix = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}
        assert standard.verify(svix, BODY, [NEW], NOW).external_id == "msg_1"
        with pytest.raises(Unauthorized, match="svix-signature header does not match the svix-id"):
            standard.verify(svix, BODY, [OTHER], NOW)

    def test_a_complete_set_of_names_is_used_and_the_standard_ones_first(self):
        headers = standard_request()
        svix = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}
        other = {name.replace("webhook-", "svix-"): value for name, value in standard_request(OTHER).items()}
        assert standard.verify(headers | other, BODY, [NEW], NOW)
        assert standard.verify(svix | {"webhook-id": "msg_2"}, BODY, [NEW], NOW).external_id == "msg_1"
        with pytest.raises(Unauthorized, match="svix-timestamp header is missing"):
            standard.verify({name: svix[name] for name in ("svix-id", "svix-signature")}, BODY, [NEW], NOW)
        mixed = svix | {"webhook-id": "msg_1"}
        del mixed["svix-id"]
        with pytest.raises(Unauthorized, match="is missing"):
            standard.verify(mixed, BODY, [NEW], NOW)

    def test_no_error_says_anything_about_a_secret(self):
        with pytest.raises(Unauthorized) as caught:
            standard.verify(standard_request(OTHER), BODY, [NEW], NOW)
        assert NEW not in caught.value.message
        assert "v1,g" not in caught.value.message
