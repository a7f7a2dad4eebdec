"""Durable records from threads: on disk when the call returns, an error when nobody knows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanward.audit.frames import Kind
from scanward.audit.reading import read
from scanward.errors import AuditError
from scanward.guard.dicom_audit import DurableRecorder
from scanward.keys import SigningKey, write_pair


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[DurableRecorder]:
    write_pair(tmp_path / "log", SigningKey.from_seed(bytes([9]) * 32))
    (tmp_path / "audit").mkdir(mode=0o700)
    made = DurableRecorder(tmp_path / "audit", tmp_path / "log.key")
    yield made
    made.close()


def kept(folder: Path) -> list[dict[str, object]]:
    """What a reader finds in the log now."""
    return [json.loads(r.payload) for r in read(folder / "audit") if r.kind is Kind.RECORD]


def test_a_record_is_on_disk_when_the_call_returns(recorder: DurableRecorder, tmp_path: Path) -> None:
    recorder("dicom-release", {"name": "CT Head", "fields": ["KVP"]})
    assert kept(tmp_path) == [{"kind": "dicom-release", "name": "CT Head", "fields": ["KVP"]}]


def test_threads_record_at_once_and_nothing_is_lost(recorder: DurableRecorder, tmp_path: Path) -> None:
    def many(name: str) -> None:
        for number in range(10):
            recorder("x", {"of": name, "number": number})

    threads = [threading.Thread(target=many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    said = kept(tmp_path)
    assert len(said) == 40
    for name in "abcd":
        assert [one["number"] for one in said if one["of"] == name] == list(range(10))


def test_a_writer_that_died_is_an_error_at_once_and_ever_after(recorder: DurableRecorder) -> None:
    recorder("x", {})
    recorder._client.process.kill()
    recorder._client.process.wait()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(AuditError):
            recorder("y", {})
    assert time.monotonic() - began < 10


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    made = DurableRecorder(tmp_path / "audit", tmp_path / "nowhere.key")
    with pytest.raises(AuditError):
        made("x", {})
    made.close()
