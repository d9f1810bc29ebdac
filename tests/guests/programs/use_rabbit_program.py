from callboard import Client

with Client.from_env() as client:
    job = client.wait(client.enqueue("rabbit_starts").id, timeout=30)
    assert job.result == [[1, 2, 3], "all"], job
