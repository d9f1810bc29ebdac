"""Stored secrets and API keys."""

import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.access.tokens import mask, new_api_key, parse_api_key, same_digest
from callboard.jobs.errors import InvalidInput, Unauthorized
from callboard.jobs.webhooks.secret_box import SecretBox

BOX = SecretBox("a key that is long enough")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_what_was_encrypted_comes_back_and_is_never_in_sight(text):
    stored = BOX.encrypt(text)
    assert BOX.decrypt(stored) == text
    assert len(text) < 8 or text not in stored


def test_the_same_text_is_never_stored_alike():
    assert BOX.encrypt("whsec_abc") != BOX.encrypt("whsec_abc")


def test_another_box_with_the_same_key_reads_it():
    assert SecretBox("a key that is long enough").decrypt(BOX.encrypt("x")) == "x"


@pytest.mark.parametrize(
    "stored",
    ["", "x", "é" * 40, BOX.encrypt("x")[:-4], "A" + BOX.encrypt("x")[1:]],
    ids=["empty", "short", "not ASCII", "cut", "altered"],
)
def test_what_cannot_be_read_names_the_setting(stored):
    with pytest.raises(InvalidInput, match="CALLBOARD_SECRET_KEY") as caught:
        BOX.decrypt(stored)
    assert "CALLBOARD_SECRET_KEY" in caught.value.fields


def test_another_key_names_the_setting():
    with pytest.raises(InvalidInput, match="CALLBOARD_SECRET_KEY"):
        SecretBox("another key, as long as that").decrypt(BOX.encrypt("x"))


def test_a_short_key_is_refused_and_not_shown():
    with pytest.raises(InvalidInput, match="CALLBOARD_SECRET_KEY is shorter than 16") as caught:
        SecretBox("fifteen letters")
    assert "fifteen" not in caught.value.message
    assert SecretBox("sixteen letters!")


def test_a_key_of_bytes_that_are_no_text_works():
    box = SecretBox("\udcff" * 16)
    assert box.decrypt(box.encrypt("x")) == "x"


def test_a_box_does_not_show_its_key():
    assert "long enough" not in repr(BOX) + str(vars(BOX))


def test_a_new_api_key_reads_back_as_its_prefix_and_digest():
    for _ in range(50):
        key = new_api_key()
        assert re.fullmatch(r"cb_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", key.token)
        assert parse_api_key(key.token) == (key.prefix, key.digest)
        assert key.token.startswith(key.prefix + "_")
        assert key.digest == hashlib.sha256(key.token[16:].encode()).hexdigest()
        assert key.token not in repr(key)


def test_api_keys_differ():
    keys = [new_api_key() for _ in range(100)]
    assert len({key.prefix for key in keys}) == len({key.digest for key in keys}) == 100


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"cb_[a-z0-9]{12}_[A-Za-z0-9_-]{42}", fullmatch=True)))
def test_any_other_text_is_no_api_key(token):
    with pytest.raises(Unauthorized):
        parse_api_key(token)


def test_a_key_followed_by_anything_is_no_api_key():
    for extra in ("\n", " ", "x"):
        with pytest.raises(Unauthorized):
            parse_api_key(new_api_key().token + extra)


def test_digests_compare():
    key = new_api_key()
    assert same_digest(key.digest, parse_api_key(key.token)[1])
    assert not same_digest(key.digest, new_api_key().digest)
    assert not same_digest(key.digest, "é")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", "****"), ("short", "****"), ("fifteen letters", "****"), ("whsec_0123456789", "****6789")],
)
def test_a_mask_shows_the_end_of_what_is_long_enough(text, shown):
    assert mask(text) == shown
