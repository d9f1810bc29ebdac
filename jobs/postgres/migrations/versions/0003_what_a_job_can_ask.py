"""What a job can ask for: limits, unique keys for a period, logs, hard timeouts, and running alone after a crash.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, UUID

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SCHEMA = "callboard"
_NOW = sa.text("now()")
_AT = TIMESTAMP(timezone=True)
_URGENCY = (
    "((run_at - '2020-01-01 00:00:00+00'::timestamp with time zone)"
    " + ((priority)::double precision * '00:10:00'::interval))"
)
_PENDING = "state IN ('waiting', 'scheduled', 'queued', 'retrying')"
_COUNTS = "attempt >= 0 AND max_attempts >= 1 AND crash_count >= 0 AND epoch >= 0"


def upgrade() -> None:
    _jobs()
    _queues()
    _grants()
    _keys()
    _logs()
    _counters()


def _jobs() -> None:
    for column in (
        sa.Column("hard_timeout", sa.Interval()),
        sa.Column("options", JSONB()),
        sa.Column("limit_key", sa.Text()),
        sa.Column("cancel_forced", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("suspected", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("solo", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("put_off", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("put_off_reason", sa.Text()),
    ):
        op.add_column("jobs", column, schema=_SCHEMA)
    op.drop_constraint(op.f("jobs_counts"), "jobs", schema=_SCHEMA)
    op.create_check_constraint(
        op.f("jobs_counts"), "jobs", f"{_COUNTS} AND suspected >= 0 AND put_off >= 0", schema=_SCHEMA
    )
    op.create_check_constraint(
        op.f("jobs_limit_key_length"), "jobs", "length(limit_key) BETWEEN 1 AND 200", schema=_SCHEMA
    )
    op.drop_index("jobs_queued", "jobs", schema=_SCHEMA)
    _index("jobs_queued", ["queue", sa.text(_URGENCY), "id"], "state = 'queued'")
    _index(
        "jobs_keyed",
        ["queue", "limit_key", sa.text(_URGENCY), "id"],
        "state = 'queued' AND limit_key IS NOT NULL",
    )
    _index("jobs_solo", ["queue", "id"], "state = 'queued' AND solo")
    _index("jobs_put_off", ["name", "id"], f"put_off > 0 AND {_PENDING}")


def _index(name: str, columns: list[str | sa.TextClause], where: str) -> None:
    op.create_index(name, "jobs", columns, schema=_SCHEMA, postgresql_where=sa.text(where))


def _queues() -> None:
    for name, kind in (
        ("concurrency", sa.Integer()),
        ("rate", sa.Integer()),
        ("rate_period", sa.Interval()),
        ("key_concurrency", sa.Integer()),
        ("key_rate", sa.Integer()),
        ("key_rate_period", sa.Interval()),
    ):
        op.add_column("queues", sa.Column(name, kind), schema=_SCHEMA)
    limited = sa.Computed("num_nonnulls(concurrency, rate, key_concurrency, key_rate) > 0", persisted=True)
    op.add_column("queues", sa.Column("limited", sa.Boolean(), limited, nullable=False), schema=_SCHEMA)
    op.create_index("queues_limited", "queues", ["name"], schema=_SCHEMA, postgresql_where=sa.text("limited"))
    op.create_check_constraint(
        op.f("queues_limits_range"),
        "queues",
        "least(concurrency, rate, key_concurrency, key_rate) >= 1"
        " AND greatest(concurrency, rate, key_concurrency, key_rate) <= 1000000",
        schema=_SCHEMA,
    )
    op.create_check_constraint(
        op.f("queues_rates_whole"),
        "queues",
        "(rate IS NULL) = (rate_period IS NULL) AND (key_rate IS NULL) = (key_rate_period IS NULL)",
        schema=_SCHEMA,
    )


def _grants() -> None:
    op.create_table(
        "grants",
        sa.Column("job_id", UUID(as_uuid=True), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("limit_key", sa.Text()),
        sa.Column("granted_at", _AT, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("started_at", _AT),
        sa.Column("uses", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "epoch", name=op.f("grants_pkey")),
        schema=_SCHEMA,
    )
    op.create_index("grants_queue", "grants", ["queue", "started_at"], schema=_SCHEMA)
    op.create_index(
        "grants_keyed",
        "grants",
        ["queue", "limit_key", "started_at"],
        schema=_SCHEMA,
        postgresql_where=sa.text("limit_key IS NOT NULL"),
    )


def _keys() -> None:
    op.create_table(
        "unique_holds",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", UUID(as_uuid=True), nullable=False),
        sa.Column("until", _AT, nullable=False),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 200", name=op.f("unique_holds_key_length")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["callboard.jobs.id"], name=op.f("unique_holds_job_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("unique_holds_pkey")),
        schema=_SCHEMA,
    )
    op.create_index("unique_holds_job", "unique_holds", ["job_id"], schema=_SCHEMA)
    op.create_index("unique_holds_until", "unique_holds", ["until"], schema=_SCHEMA)
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("answer", JSONB(), nullable=False),
        sa.Column("created_at", _AT, server_default=_NOW, nullable=False),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 200", name=op.f("idempotency_keys_key_length")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("idempotency_keys_pkey")),
        schema=_SCHEMA,
    )
    op.create_index("idempotency_keys_created", "idempotency_keys", ["created_at"], schema=_SCHEMA)


def _logs() -> None:
    op.create_table(
        "job_logs",
        sa.Column("job_id", UUID(as_uuid=True), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("logged_at", _AT, nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("logger", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(level) <= 20 AND length(logger) <= 200 AND length(message) <= 4000",
            name=op.f("job_logs_lengths"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["callboard.jobs.id"], name=op.f("job_logs_job_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "epoch", "line", name=op.f("job_logs_pkey")),
        schema=_SCHEMA,
    )


def _counters() -> None:
    op.create_table(
        "counters",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", _AT, nullable=False),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 500", name=op.f("counters_key_length")),
        sa.PrimaryKeyConstraint("key", name=op.f("counters_pkey")),
        schema=_SCHEMA,
    )
    op.create_index("counters_expires", "counters", ["expires_at"], schema=_SCHEMA)


def downgrade() -> None:
    for table in ("counters", "job_logs", "idempotency_keys", "unique_holds", "grants"):
        op.drop_table(table, schema=_SCHEMA)
    for constraint in ("queues_rates_whole", "queues_limits_range"):
        op.drop_constraint(op.f(constraint), "queues", schema=_SCHEMA)
    for column in (
        "limited", "concurrency", "rate", "rate_period", "key_concurrency", "key_rate", "key_rate_period",
    ):  # fmt: skip
        op.drop_column("queues", column, schema=_SCHEMA)
    for index in ("jobs_put_off", "jobs_solo", "jobs_keyed", "jobs_queued"):
        op.drop_index(index, "jobs", schema=_SCHEMA)
    _index("jobs_queued", ["queue", "priority", "run_at", "id"], "state = 'queued'")
    op.drop_constraint(op.f("jobs_counts"), "jobs", schema=_SCHEMA)
    op.create_check_constraint(op.f("jobs_counts"), "jobs", _COUNTS, schema=_SCHEMA)
    op.drop_constraint(op.f("jobs_limit_key_length"), "jobs", schema=_SCHEMA)
    for column in (
        "hard_timeout", "options", "limit_key", "cancel_forced", "suspected", "solo", "put_off", "put_off_reason",
    ):  # fmt: skip
        op.drop_column("jobs", column, schema=_SCHEMA)
