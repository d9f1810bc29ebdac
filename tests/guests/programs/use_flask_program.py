from flask_program import dramatiq, flask_name, flask_name_async

backend = dramatiq.broker.get_results_backend()
for actor in (flask_name, flask_name_async):
    assert actor.send().get_result(backend=backend, block=True, timeout=20_000) == "shop"
