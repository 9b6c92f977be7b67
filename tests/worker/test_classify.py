"""What an end means, and what a client is told of it."""

from __future__ import annotations

import signal

import pytest

from nidim.errors import CheckpointError, DataError, DatasetUnavailable, SpecError, TrainingDiverged
from nidim.remote.options import LASTING
from service import errors as service_errors
from worker.classify import (
    LONGEST_MESSAGE,
    PERMANENT,
    classify,
    classify_exit,
    last_line,
    out_of_attempts,
    public,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("x"), "spec_error"),
        (DataError("x"), "data_error"),
        (DatasetUnavailable("x"), "dataset_unavailable"),
        (TrainingDiverged("x"), "training_diverged"),
        (CheckpointError("x"), "checkpoint_error"),
        (service_errors.DatasetUnavailable("x"), "dataset_unavailable"),
    ],
)
def test_what_the_input_causes_is_not_tried_again(error: Exception, code: str) -> None:
    verdict = classify(error)
    assert (verdict.retry, verdict.code, verdict.message) == (False, code, "x")


def test_commands_advise_no_retry_of_what_is_not_tried_again() -> None:
    assert set(PERMANENT.values()) == LASTING


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("x"),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_memory_is_tried_again_and_named(error: Exception) -> None:
    verdict = classify(error)
    assert (verdict.retry, verdict.code) == (True, "out_of_memory")


def test_what_onednn_cannot_compute_is_no_want_of_memory() -> None:
    error = RuntimeError(
        "could not create a primitive descriptor for a convolution forward propagation primitive"
    )
    assert classify(error).code == "internal"


def test_anything_else_is_tried_again() -> None:
    verdict = classify(KeyError("weights"))
    assert (verdict.retry, verdict.code, verdict.message) == (True, "internal", "KeyError: 'weights'")


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (-signal.SIGKILL, "", "killed"),
        (-signal.SIGSEGV, "boom\n", "crashed"),
        (3, "", "crashed"),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", "out_of_memory"),
        (
            1,
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to",
            "out_of_memory",
        ),
        (1, "ImportError: libx.so: failed to map segment: Cannot allocate memory", "out_of_memory"),
        (-signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        (-signal.SIGABRT, "terminate called after throwing std::bad_alloc: out of memory", "out_of_memory"),
    ],
)
def test_an_exit_without_result(code: int, words: str, expected: str) -> None:
    verdict = classify_exit(code, words)
    assert verdict.retry
    assert verdict.code == expected


def test_a_kill_is_blamed_on_memory_only_if_the_kernel_says_so() -> None:
    by_kernel = classify_exit(-signal.SIGKILL, "", oom_killed=True)
    assert (by_kernel.retry, by_kernel.code) == (True, "out_of_memory")
    by_somebody = classify_exit(-signal.SIGKILL, "", oom_killed=False)
    assert by_somebody.code == "killed"
    assert "no want of memory" in by_somebody.message
    assert classify_exit(-signal.SIGSEGV, "", oom_killed=True).code == "crashed"


FAULT = (
    "INFO:worker.child:training\nFatal Python error: Aborted\n\nCurrent thread 0x7f (most recent call first):\n"
    '  File "loop.py", line 77 in run_steps\n\nExtension modules: numpy.linalg, torch._C\n'
)


def test_a_crash_is_told_by_its_fault_and_not_by_the_dump_below() -> None:
    verdict = classify_exit(-signal.SIGABRT, FAULT)
    assert verdict.code == "crashed"
    assert verdict.message.endswith("SIGABRT; its last words: Fatal Python error: Aborted")
    in_rust = f"memory allocation of 1048576 bytes failed\nstack backtrace:\n{FAULT}"
    assert classify_exit(-signal.SIGABRT, in_rust).code == "out_of_memory"


def test_the_last_of_too_many_attempts_is_final_and_keeps_its_reason() -> None:
    final = out_of_attempts(classify_exit(-signal.SIGSEGV, ""), 3)
    assert not final.retry
    assert "3 attempts" in final.message
    assert "SIGSEGV" in final.message


def test_a_client_reads_no_directory_of_this_machine() -> None:
    assert public("cannot open /srv/me/.nidim/blobs/ab/cd.npz: no space") == "cannot open cd.npz: no space"
    assert public("ratio 3/4 of http://example.org/a/b") == "ratio 3/4 of http://example.org/a/b"
    assert last_line('  File "/a/b.py", line 3\n\nValueError: /x/y.z\n\n') == "ValueError: y.z"
    assert len(public("a" * 10_000)) == LONGEST_MESSAGE
