from callboard import Client

with Client.from_env() as client:
    assert client.wait(client.enqueue("tenant_open").id, timeout=30).result == "ran"
    closed = client.wait(client.enqueue("tenant_closed").id, timeout=30)
    assert (closed.state, closed.errors[0]["message"]) == ("cancelled", "closed"), closed
