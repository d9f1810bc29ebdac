"""The job of the README."""

from callboard import RetryPolicy, current_job, job


@job(queue="mail", retry=RetryPolicy(max_attempts=5), timeout="1m")
def send_receipt(order_id: int, to: str) -> dict:
    task = current_job()
    for done, part in enumerate(("invoice", "letter", "parcel label")):
        task.progress(done / 3, part)  # raises when the job was cancelled
    return {"order": order_id, "sent_to": to}
