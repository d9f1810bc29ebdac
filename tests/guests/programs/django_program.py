"""django_dramatiq: its admin and its database connections, for sync and async jobs."""

import os

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["GUEST_NOTES"] + ".db"}
    },
    INSTALLED_APPS=["django_dramatiq"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DRAMATIQ_BROKER={
        "BROKER": "dramatiq.brokers.redis.RedisBroker",  # the broker's line
        "OPTIONS": {},
        "MIDDLEWARE": [
            "dramatiq.middleware.AgeLimit",
            "dramatiq.middleware.TimeLimit",
            "dramatiq.middleware.Callbacks",
            "dramatiq.middleware.Retries",
            "django_dramatiq.middleware.DbConnectionsMiddleware",
            "django_dramatiq.middleware.AdminMiddleware",
        ],
    },
)
django.setup()

import dramatiq
from django_dramatiq.models import Task


@dramatiq.actor
def django_count():
    return Task.tasks.count()


@dramatiq.actor
async def django_count_async():
    return await Task.tasks.acount()
