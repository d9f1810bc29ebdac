"""The client of a request: the TCP peer, or the first address that no trusted proxy has."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard.api.http.client_address import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.1"])
PEER = "10.0.0.1"


def origin(peer, *headers, proxies=PROXIES):
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    client = None if peer is None else (peer, 4711)
    return proxies.origin({"type": "http", "client": client, "scheme": "http", "headers": raw})


def forwarded(*lines, peer=PEER):
    return origin(peer, *(("Forwarded", line) for line in lines))


def x_forwarded(*lines, peer=PEER, proto=()):
    headers = [("X-Forwarded-For", line) for line in lines]
    return origin(peer, *headers, *(("X-Forwarded-Proto", line) for line in proto))


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8:2::1", "11.0.0.1", "192.0.2.2", "testclient", ""])
def test_headers_of_a_peer_that_is_not_trusted_are_ignored(peer):
    for name, value in (("Forwarded", "for=198.51.100.7;proto=https"), ("X-Forwarded-For", "198.51.100.7")):
        assert origin(peer, (name, value), ("X-Forwarded-Proto", "https")) == (peer, "http")


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", "::1"])
def test_without_trusted_proxies_the_peer_is_the_client(peer):
    headers = [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=198.51.100.7")]
    assert origin(peer, *headers, proxies=TrustedProxies()) == (peer, "http")


def test_a_peer_without_an_address_has_an_empty_one():
    assert origin(None, ("X-Forwarded-For", "198.51.100.7")) == ("", "http")


@pytest.mark.parametrize("peer", [PEER, "2001:db8:1::5", "192.0.2.1", "::ffff:10.0.0.1"])
def test_a_trusted_peer_names_the_client(peer):
    assert x_forwarded("198.51.100.7", peer=peer).address == "198.51.100.7"
    assert forwarded("for=198.51.100.7", peer=peer).address == "198.51.100.7"


def test_a_trusted_peer_that_names_nobody_is_the_client():
    assert origin(PEER) == (PEER, "http")
    assert origin("::ffff:10.0.0.1") == (PEER, "http")


#: The lines of a `Forwarded` header, and the client.
FORWARDED = [
    (["for=198.51.100.7"], "198.51.100.7"),
    (["For=198.51.100.7;Proto=https;by=10.0.0.1"], "198.51.100.7"),
    (['for="198.51.100.7:4711"'], "198.51.100.7"),
    (['for="[2001:db8::7]"'], "2001:db8::7"),
    (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
    (['for="[2001:db8::7]:_port"'], "2001:db8::7"),
    (['for="[::ffff:198.51.100.7]"'], "198.51.100.7"),
    (['for="198.51.100.\\7"'], "198.51.100.7"),
    (['host="a,b;c";for=198.51.100.7'], "198.51.100.7"),
    # The client sent the first ones itself.
    (["for=1.1.1.1, for=198.51.100.7"], "198.51.100.7"),
    (["for=1.1.1.1", "for=198.51.100.7"], "198.51.100.7"),
    (["for=1.1.1.1,for=198.51.100.7 , for=10.0.0.2"], "198.51.100.7"),
    (["for=1.1.1.1, for=198.51.100.7", 'for=10.0.0.2, for="[2001:db8:1::9]"'], "198.51.100.7"),
    # All of them are proxies: the one at the left is the client.
    (["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
    # What cannot be read stops the walk.
    (["for=198.51.100.7, for=unknown"], PEER),
    (["for=198.51.100.7, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
    (["for=198.51.100.7, by=10.0.0.2"], PEER),
    (["for=198.51.100.7, for=10.0.0.256"], PEER),
    (["for=198.51.100.7,"], PEER),
    (["for"], PEER),
    (["for="], PEER),
    (['for=""'], PEER),
    ([""], PEER),
    (["for = 198.51.100.7"], PEER),
    (["for=[2001:db8::7]"], PEER),
    (['for="2001:db8::7'], PEER),
    # A proxy adds its element after what a client sent, also after an open quote.
    (['for="1.1.1.1, for=198.51.100.7'], "198.51.100.7"),
    (['x="\\", for=198.51.100.7'], "198.51.100.7"),
    (['for="1.1.1.1', "for=198.51.100.7"], "198.51.100.7"),
    (['for="1.1.1.1, for=10.0.0.2'], "10.0.0.2"),
    # A text within quotes is no element.
    (['for=198.51.100.7;host="a, for=1.1.1.1"'], "198.51.100.7"),
]


@pytest.mark.parametrize(("lines", "client"), FORWARDED)
def test_forwarded_is_read_from_the_right(lines, client):
    assert forwarded(*lines).address == client


#: The lines of `X-Forwarded-For`, and the client.
X_FORWARDED = [
    (["198.51.100.7"], "198.51.100.7"),
    (["198.51.100.7:4711"], "198.51.100.7"),
    (["2001:db8::7"], "2001:db8::7"),
    (["[2001:db8::7]"], "2001:db8::7"),
    (["[2001:db8::7]:4711"], "2001:db8::7"),
    (["::ffff:198.51.100.7"], "198.51.100.7"),
    (["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
    (["1.1.1.1, 198.51.100.7 ,10.0.0.2"], "198.51.100.7"),
    (["1.1.1.1", "198.51.100.7", "10.0.0.2, 2001:db8:1::9"], "198.51.100.7"),
    (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    (["198.51.100.7, unknown"], PEER),
    (["198.51.100.7, , 10.0.0.2"], "10.0.0.2"),
    (["198.51.100.7,"], PEER),
    ([""], PEER),
    (["198.51.100.7, 010.0.0.2"], PEER),
    (["<script>"], PEER),
]


@pytest.mark.parametrize(("lines", "client"), X_FORWARDED)
def test_x_forwarded_for_is_read_from_the_right(lines, client):
    assert x_forwarded(*lines).address == client


def test_x_forwarded_for_is_ignored_beside_forwarded():
    headers = [
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=198.51.100.7"),
    ]
    assert origin(PEER, *headers) == ("198.51.100.7", "http")


def test_the_scheme_is_that_of_the_clients_request():
    assert forwarded("for=198.51.100.7;proto=HTTPS").scheme == "https"
    assert forwarded("for=1.1.1.1;proto=http, for=198.51.100.7;proto=https, for=10.0.0.2").scheme == "https"
    assert forwarded("for=198.51.100.7;proto=gopher").scheme == "http"
    assert x_forwarded("198.51.100.7", proto=["https"]).scheme == "https"
    assert x_forwarded("198.51.100.7, 10.0.0.2", proto=["https"]).scheme == "https"
    assert x_forwarded("1.1.1.1, 198.51.100.7, 10.0.0.2", proto=["http, https, http"]).scheme == "https"
    assert x_forwarded("198.51.100.7", proto=["https", "javascript"]).scheme == "http"


def test_only_the_end_of_an_endless_header_is_read():
    proxies = ", ".join(["10.0.0.2"] * 5_000)
    assert x_forwarded(f"198.51.100.7, {proxies}").address == "10.0.0.2"
    assert forwarded(", ".join(["for=10.0.0.2"] * 5_000)).address == "10.0.0.2"
    assert forwarded('for="' * 20_000).address == PEER
    assert forwarded('x="' * 20_000 + ", for=198.51.100.7").address == "198.51.100.7"


TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
PART = st.one_of(
    st.sampled_from(
        [
            '"',
            "\\",
            ",",
            ";",
            "=",
            "for=",
            "proto=https",
            "10.0.0.2",
            "198.51.100.7",
            "[2001:db8::7]:1",
            " ",
            "_x",
        ]
    ),
    TEXT,
)
LINE = st.lists(PART, max_size=12).map("".join)


@given(st.sampled_from(["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"]), LINE, TEXT)
@example("X-Forwarded-For", "fe80::1%", "fe80::1%eth0")
@example("Forwarded", 'for="\\', "")
def test_whatever_a_header_says_there_is_a_client_and_a_scheme(name, line, peer):
    for one in (peer, PEER, None):
        found = origin(one, (name, line), ("X-Forwarded-For", line))
        assert found.scheme in {"http", "https"}
        assert isinstance(found.address, str)


@given(LINE, st.sampled_from([", ", ",", " , "]))
def test_what_a_client_sends_does_not_change_what_its_proxy_adds(line, comma):
    assert x_forwarded(line + comma + "198.51.100.7").address == "198.51.100.7"
    assert x_forwarded(line, "198.51.100.7").address == "198.51.100.7"
    assert forwarded(line, "for=198.51.100.7;proto=https") == ("198.51.100.7", "https")
    for element in ("for=198.51.100.7", 'for="198.51.100.7:1"', 'by=10.0.0.2;for="198.51.100.7"'):
        assert forwarded(line + comma + element).address == "198.51.100.7"
