from callboard import Client

with Client.from_env() as client:
    fast = client.wait(client.enqueue("two_fast").id, timeout=30)
    slow = client.wait(client.enqueue("two_slow").id, timeout=30)
    assert (len(fast.errors), fast.options["message"]["labels"]) == (3, ["fast", "fast"]), fast
    assert (len(slow.errors), slow.state) == (1, "failed"), slow
