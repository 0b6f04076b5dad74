"""The log after a torn line, and signals as flags."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from logsnr.train.journal import Journal, read
from logsnr.train.stop import Stop


def steps(path: Path) -> list[int]:
    return [record["step"] for record in read(path)]


def test_records_come_back_exactly(tmp_path: Path) -> None:
    records = [{"step": i, "loss": 0.1 * i, "bins": [None, 1e-300]} for i in range(4)]
    with Journal(tmp_path / "run" / "log.jsonl") as journal:
        for record in records:
            journal.append(record)
        assert list(read(journal.path)) == records  # before closing: every line is flushed


def test_resume_drops_later_records_and_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": i, "loss": 1 / i}) + "\n" for i in range(1, 8)) + '{"step": 3')
    assert steps(path) == [1, 2, 3, 4, 5, 6, 7]
    with Journal(path) as journal:
        journal.keep_until(4)
        assert steps(path) == [1, 2, 3, 4]
        journal.append({"step": 5, "loss": 1.0})
        journal.sync()
    assert steps(path) == [1, 2, 3, 4, 5]
    assert [record["loss"] for record in read(path)] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1.0]
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_a_line_without_its_end_is_torn_even_if_it_parses(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    with Journal(path) as journal:
        journal.keep_until(10)
    assert path.read_text() == '{"step":1}\n'


def test_a_failed_rewrite_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with Journal(path) as journal, pytest.raises(OSError, match="No space"):
        journal.keep_until(1)
    assert steps(path) == [1, 2]


def test_numbers_that_json_cannot_say_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "log.jsonl") as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"step": 1, "loss": float("nan")})
        assert steps(journal.path) == []


def test_full_disk_is_one_line_with_the_path(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "log.jsonl") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            with pytest.raises(OSError, match=r"^cannot write .*log.jsonl: only 20 of \d+ bytes fitted$"):
                journal.append({"step": 1, "text": "x" * 50})
            with pytest.raises(OSError, match=r"^cannot write .*log.jsonl: File too large$"):
                journal.append({"step": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_signal_is_a_flag_and_the_old_handler_returns() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_second_interrupt_means_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def body() -> None:
        with Stop() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


LOOP = """
import time
from logsnr.train.stop import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("step finished, saved", flush=True)
"""


def test_a_process_told_to_stop_finishes_its_step_and_leaves_in_peace() -> None:
    with subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("step finished, saved\n", 0)
