"""Lists find the jobs of a rare name or queue without reading all other jobs.

`jobs_names` is a summary of blocks of the table.

Revision: 0016
Follows: 0015
"""

from typing import Final

from callboard.jobs.postgres.migrations.indexes import create_index, drop_index

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INDEXES: Final = {
    "jobs_names": "jobs USING brin (name text_bloom_ops, queue text_bloom_ops)"
    " WITH (pages_per_range = 32, autosummarize = on) WHERE state <> 'running'",
}


def upgrade() -> None:
    for name, place in INDEXES.items():
        create_index(name, place)


def downgrade() -> None:
    for name in INDEXES:
        drop_index(name)
