"""Fifty requests with one delivery id arrive at once while the API is killed: one delivery, one job."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from callboard.jobs.webhooks.intake import source_request
from callboard.jobs.webhooks.schemes import SCHEMES
from tests.e2e.stage import Process, Stage, until

KEY = "only for these tests"
SECRET = "a secret of some length"
BODY = b'{"n": 1}'


def listening(stage: Stage) -> tuple[Process, str]:
    api = stage.start("api", port=0)
    return api, str(until(lambda: api.events("api.listening"))[0]["url"])


def deliver(url: str, delivery: str) -> str | None:
    """The id of the delivery; None when the server died before it answered."""
    headers = SCHEMES["github"].sign(SECRET, BODY) | {"x-github-event": "push", "x-github-delivery": delivery}
    try:
        answer = httpx.post(f"{url}/webhooks/forge", content=BODY, headers=headers, timeout=60)
    except httpx.HTTPError:
        return None
    assert answer.status_code == 202, answer.text
    return str(answer.json()["delivery_id"])


@pytest.mark.long
def test_a_delivery_that_is_sent_while_the_api_is_killed_makes_one_job(stage: Stage) -> None:
    source = {"name": "forge", "scheme": "github", "job": "pushed", "secret": SECRET, "unchecked": True}
    stage.platform.intake(KEY).create(source_request(source))
    for round_ in range(3):
        delivery = f"d-{round_}"
        api, url = listening(stage)
        with ThreadPoolExecutor(50) as threads:
            answers = [threads.submit(deliver, url, delivery) for _ in range(50)]
            until(lambda answers=answers: any(answer.done() for answer in answers))
            api.kill()
            told = {answer.result() for answer in answers} - {None}
        api, url = listening(stage)
        again = deliver(url, delivery)
        assert told <= {again}
        api.kill()
    with stage.platform.database.autocommit() as connection:
        counted = "SELECT count(*), count(DISTINCT external_id), count(DISTINCT job_id) FROM callboard.webhook_deliveries"
        assert tuple(connection.execute(text(counted)).one()) == (3, 3, 3)
    assert stage.states().total() == 3
