"""flask-dramatiq: an application factory; sync and async jobs run in the application's context."""

from flask import Flask, current_app
from flask_dramatiq import Dramatiq

dramatiq = Dramatiq()


@dramatiq.actor
def flask_name():
    return current_app.name


@dramatiq.actor
async def flask_name_async():
    return current_app.name


def create_app():
    app = Flask("shop")
    app.config["DRAMATIQ_BROKER"] = "dramatiq.brokers.redis:RedisBroker"  # the broker's line
    dramatiq.init_app(app)
    return app


app = create_app()
