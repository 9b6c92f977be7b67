"""A bad upload is its sender's fault: one line for the operator, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from nidim.data import ingest_main
from nidim.errors import DataError
from service.ingest import IngestFailed, ingest_upload


def test_a_refused_file_leaves_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"neither this nor that")
    with pytest.raises(IngestFailed, match="Neither a zip"):
        ingest_upload(file, out_dir=tmp_path / "out")
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_what_nobody_foresaw_is_still_logged() -> None:
    assert ingest_main.expected(DataError("the file"))
    assert not ingest_main.expected(KeyError("ours"))
