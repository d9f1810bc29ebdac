"""The spine.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name=op.f("api_keys_role_known")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("api_keys_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        schema="callboard",
    )
    op.create_index(
        "api_keys_name_key",
        "api_keys",
        ["name"],
        unique=True,
        schema="callboard",
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index("api_keys_prefix_key", "api_keys", ["prefix"], unique=True, schema="callboard")
    op.create_table(
        "job_types",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("schema", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("defaults", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("doc", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "published_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("job_types_pkey")),
        schema="callboard",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("5"), nullable=False),
        sa.Column(
            "args",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "kwargs",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("crash_count", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "enqueued_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("worker_id", sa.UUID(), nullable=True),
        sa.Column("claim_id", sa.UUID(), nullable=True),
        sa.Column("progress", sa.REAL(), nullable=True),
        sa.Column("progress_note", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "errors",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column(
            "tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("timeout", sa.Interval(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled', 'quarantined'))",
            name=op.f("jobs_finished_when_terminal"),
        ),
        sa.CheckConstraint(
            "jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object'", name=op.f("jobs_arguments")
        ),
        sa.CheckConstraint(
            "source IN ('cli', 'http', 'webhook', 'schedule', 'python', 'sql', 'job')",
            name=op.f("jobs_source_known"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (worker_id IS NOT NULL AND claim_id IS NOT NULL AND started_at IS NOT NULL)",
            name=op.f("jobs_running_has_worker"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled', 'quarantined')",
            name=op.f("jobs_state_known"),
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND max_attempts >= 1 AND crash_count >= 0 AND epoch >= 0", name=op.f("jobs_counts")
        ),
        sa.CheckConstraint(
            "length(name) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100", name=op.f("jobs_names")
        ),
        sa.CheckConstraint("length(unique_key) BETWEEN 1 AND 200", name=op.f("jobs_unique_key_length")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("jobs_priority_range")),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name=op.f("jobs_progress_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        schema="callboard",
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.05"},
    )
    op.create_index(
        "jobs_due",
        "jobs",
        ["run_at", "id"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("state IN ('scheduled', 'retrying')"),
    )
    op.create_index(
        "jobs_expiring",
        "jobs",
        ["expires_at"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text(
            "expires_at IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued', 'retrying')"
        ),
    )
    op.create_index(
        "jobs_finished",
        "jobs",
        ["finished_at", "id"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("state IN ('succeeded', 'failed', 'cancelled', 'quarantined')"),
    )
    op.create_index(
        "jobs_queued",
        "jobs",
        ["queue", "priority", "run_at", "id"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "jobs_running",
        "jobs",
        ["worker_id", "id"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "jobs_tags",
        "jobs",
        ["tags"],
        unique=False,
        schema="callboard",
        postgresql_using="gin",
        postgresql_where=sa.text("tags <> '{}'::text[]"),
    )
    op.create_index(
        "jobs_unique_active",
        "jobs",
        ["unique_key"],
        unique=True,
        schema="callboard",
        postgresql_where=sa.text(
            "unique_key IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying')"
        ),
    )
    op.create_index(
        "jobs_unsuccessful",
        "jobs",
        ["state", "id"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("state IN ('failed', 'cancelled', 'quarantined')"),
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("queues_name_length")),
        sa.PrimaryKeyConstraint("name", name=op.f("queues_pkey")),
        schema="callboard",
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=True),
        sa.Column(
            "args",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "kwargs",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("every", sa.Interval(), nullable=True),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("timezone", sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
        sa.Column("dst_gap", sa.Text(), server_default=sa.text("'shift'"), nullable=False),
        sa.Column("overlap", sa.Text(), server_default=sa.text("'skip'"), nullable=False),
        sa.Column("catchup", sa.Text(), server_default=sa.text("'latest'"), nullable=False),
        sa.Column(
            "catchup_window", sa.Interval(), server_default=sa.text("'01:00:00'::interval"), nullable=False
        ),
        sa.Column("paused_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("next_fire_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_fire_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_job_id", sa.UUID(), nullable=True),
        sa.CheckConstraint("catchup IN ('latest', 'none')", name=op.f("schedules_catchup_known")),
        sa.CheckConstraint("dst_gap IN ('shift', 'skip')", name=op.f("schedules_dst_gap_known")),
        sa.CheckConstraint("overlap IN ('skip', 'allow_all')", name=op.f("schedules_overlap_known")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("schedules_name_length")),
        sa.CheckConstraint("num_nonnulls(cron, every, at) = 1", name=op.f("schedules_one_rule")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("schedules_priority_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("schedules_pkey")),
        schema="callboard",
    )
    op.create_index(
        "schedules_due",
        "schedules",
        ["next_fire_at"],
        unique=False,
        schema="callboard",
        postgresql_where=sa.text("next_fire_at IS NOT NULL"),
    )
    op.create_index("schedules_name_key", "schedules", ["name"], unique=True, schema="callboard")
    op.create_table(
        "webhook_sources",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column(
            "events", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column("secrets", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "cardinality(secrets) BETWEEN 1 AND 5", name=op.f("webhook_sources_secrets_count")
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("webhook_sources_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_sources_pkey")),
        schema="callboard",
    )
    op.create_index("webhook_sources_name_key", "webhook_sources", ["name"], unique=True, schema="callboard")
    op.create_table(
        "workers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "queues", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column(
            "job_names", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column(
            "started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("lease_expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("draining_since", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
        schema="callboard",
    )
    op.create_index("workers_lease", "workers", ["lease_expires_at"], unique=False, schema="callboard")
    op.create_table(
        "schedule_ticks",
        sa.Column("schedule_id", sa.UUID(), nullable=False),
        sa.Column("nominal_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "decided_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.CheckConstraint(
            "(job_id IS NOT NULL) = (result IN ('fired', 'caught_up'))",
            name=op.f("schedule_ticks_job_when_fired"),
        ),
        sa.CheckConstraint(
            "result IN ('fired', 'caught_up', 'skipped', 'missed')", name=op.f("schedule_ticks_result_known")
        ),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["callboard.schedules.id"],
            name=op.f("schedule_ticks_schedule_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("schedule_id", "nominal_at", name=op.f("schedule_ticks_pkey")),
        schema="callboard",
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("source_id", sa.UUID(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column(
            "received_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.CheckConstraint(
            "length(external_id) BETWEEN 1 AND 200 AND length(event) <= 200",
            name=op.f("webhook_deliveries_lengths"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["callboard.webhook_sources.id"],
            name=op.f("webhook_deliveries_source_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pkey")),
        schema="callboard",
    )
    op.create_index(
        "webhook_deliveries_source_external_key",
        "webhook_deliveries",
        ["source_id", "external_id"],
        unique=True,
        schema="callboard",
    )


def downgrade() -> None:
    op.drop_index(
        "webhook_deliveries_source_external_key", table_name="webhook_deliveries", schema="callboard"
    )
    op.drop_table("webhook_deliveries", schema="callboard")
    op.drop_table("schedule_ticks", schema="callboard")
    op.drop_index("workers_lease", table_name="workers", schema="callboard")
    op.drop_table("workers", schema="callboard")
    op.drop_index("webhook_sources_name_key", table_name="webhook_sources", schema="callboard")
    op.drop_table("webhook_sources", schema="callboard")
    op.drop_index("schedules_name_key", table_name="schedules", schema="callboard")
    op.drop_index(
        "schedules_due",
        table_name="schedules",
        schema="callboard",
        postgresql_where=sa.text("next_fire_at IS NOT NULL"),
    )
    op.drop_table("schedules", schema="callboard")
    op.drop_table("queues", schema="callboard")
    op.drop_index(
        "jobs_unsuccessful",
        table_name="jobs",
        schema="callboard",
        postgresql_where=sa.text("state IN ('failed', 'cancelled', 'quarantined')"),
    )
    op.drop_index(
        "jobs_unique_active",
        table_name="jobs",
        schema="callboard",
        postgresql_where=sa.text(
            "unique_key IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying')"
        ),
    )
    op.drop_index(
        "jobs_tags",
        table_name="jobs",
        schema="callboard",
        postgresql_using="gin",
        postgresql_where=sa.text("tags <> '{}'::text[]"),
    )
    op.drop_index(
        "jobs_running", table_name="jobs", schema="callboard", postgresql_where=sa.text("state = 'running'")
    )
    op.drop_index(
        "jobs_queued", table_name="jobs", schema="callboard", postgresql_where=sa.text("state = 'queued'")
    )
    op.drop_index(
        "jobs_finished",
        table_name="jobs",
        schema="callboard",
        postgresql_where=sa.text("state IN ('succeeded', 'failed', 'cancelled', 'quarantined')"),
    )
    op.drop_index(
        "jobs_expiring",
        table_name="jobs",
        schema="callboard",
        postgresql_where=sa.text(
            "expires_at IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued', 'retrying')"
        ),
    )
    op.drop_index(
        "jobs_due",
        table_name="jobs",
        schema="callboard",
        postgresql_where=sa.text("state IN ('scheduled', 'retrying')"),
    )
    op.drop_table("jobs", schema="callboard")
    op.drop_table("job_types", schema="callboard")
    op.drop_index("api_keys_prefix_key", table_name="api_keys", schema="callboard")
    op.drop_index(
        "api_keys_name_key",
        table_name="api_keys",
        schema="callboard",
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.drop_table("api_keys", schema="callboard")
