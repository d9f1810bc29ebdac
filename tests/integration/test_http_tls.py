"""HTTPS with certificate files."""

import datetime as dt
import ipaddress
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from callboard.api.http import tls
from callboard.jobs.errors import InvalidInput
from tests.integration.api_client import api_on_a_port


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate for 127.0.0.1 and its private key, in PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "callboard.example")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"a password")
    forms = {"key": plain, "locked": locked}
    for file, encryption in forms.items():
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        (folder / f"{file}.pem").write_bytes(text)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both = (folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)
    return folder


@pytest.mark.parametrize("names", [("cert.pem", "key.pem"), ("both.pem", None)])
def test_the_api_speaks_https_with_certificate_files(platform, files, names):
    cert, key = (name and files / name for name in names)
    trusted = ssl.create_default_context(cafile=files / "cert.pem")
    context = tls.tls_context(cert, key)
    with api_on_a_port(platform, tls=context, trusted=trusted) as (api, server):
        assert server.url.startswith("https://127.0.0.1:")
        for _ in range(3):
            assert api.operator.enqueue()["state"] == "queued"
        too_large = b"x" * 2_000_000
        answer = api.operator(
            "POST", "/v1/jobs", content=too_large, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413


def test_a_client_without_tls_is_refused_and_others_are_served(platform, files):
    trusted = ssl.create_default_context(cafile=files / "cert.pem")
    context = tls.tls_context(files / "both.pem", None)
    with api_on_a_port(platform, tls=context, trusted=trusted) as (api, server):
        with socket.create_connection(server.socket.getsockname(), timeout=60) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(4096).startswith(b"HTTP/")
        assert api.anonymous.get("/healthz").status_code == 200


def test_a_handshake_that_does_not_come_is_cut_off(platform, files, monkeypatch):
    monkeypatch.setattr("callboard.api.http.server.HANDSHAKE_SECONDS", 0.3)
    context = tls.tls_context(files / "both.pem", None)
    with (
        api_on_a_port(platform, tls=context) as (_, server),
        socket.create_connection(server.socket.getsockname(), timeout=60) as silent,
    ):
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("cert", "key"),
    [("missing.pem", "key.pem"), ("cert.pem", None), ("key.pem", "key.pem"), ("cert.pem", "locked.pem")],
)
def test_files_that_cannot_be_used_are_named(files, cert, key):
    with pytest.raises(InvalidInput, match="CALLBOARD_TLS_CERT") as caught:
        tls.tls_context(files / cert, key and files / key)
    assert str(files / cert) in caught.value.message


def test_a_key_without_a_certificate_is_an_error(files):
    with pytest.raises(InvalidInput, match="CALLBOARD_TLS_CERT is not"):
        tls.tls_context(None, files / "key.pem")
