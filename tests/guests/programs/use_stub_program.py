from callboard import Client

with Client.from_env() as client:
    assert client.wait(client.enqueue("stub_line", {"n": 3}).id, timeout=30).result == 12
