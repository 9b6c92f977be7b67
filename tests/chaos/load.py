"""The load under which faults are injected: a seeded stream of tiny trainings, and embeddings all the time.

A submission is repeated with its Idempotency-Key until it is answered 202, as a careful client would do it: from then
on the job is accepted and must not be lost. Some are sent twice with the same key, some are cancelled. Every answer to
an embedding must be the same vectors as the first. Beside it datasets are uploaded and event streams are read.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.chaos.processes import catches, wait_for
from tests.chaos.readers import Readers
from tests.chaos.stacks import Stack

NAMES = ("chaos-a", "chaos-b", "chaos-c")
EMBEDDERS = 2
EMBED_EVERY_S = 0.1
READERS = 2
UPLOAD_EVERY_S = 10.0
TWICE, CANCELLED = 0.25, 0.1
"""The shares of submissions that are sent twice at once, and that are cancelled."""
CLOSE = 1e-5
PATIENCE_S = 20.0
"""Of a client; half-way, an API that has not answered an embedding is asked where it is (``service.whereabouts``)."""


def spec(seed: int, epochs: int) -> dict[str, Any]:
    """A training of a second or two."""
    return {
        "dataset": "digits",
        "encoder": {"kind": "conv", "dim": 2, "width": 4},
        "batch_size": 64,
        "precision": "float32",
        "epochs": epochs,
        "seed": seed,
    }


def client(stack: Stack, timeout: float = PATIENCE_S) -> httpx.Client:
    """A client without the proxies of this machine."""
    return httpx.Client(base_url=stack.url, trust_env=False, timeout=timeout)


def npy(images: np.ndarray) -> bytes:
    """The array as a file."""
    out = io.BytesIO()
    np.save(out, images)
    return out.getvalue()


@dataclass(frozen=True)
class Failure:
    """An embedding that failed, from when to when, how, and in what words.

    refused      no connection: nobody has seen the request
    reset        the connection was reset: the kernel held the request and no process has read it
    cut          a process read the request and the connection ended without a whole answer
    late         no answer within the client's patience
    unavailable  429 or 503 with Retry-After: refused, to be sent again
    failed       any other answer
    """

    began: float
    ended: float
    kind: str
    words: str


def kind_of(error: httpx.HTTPError) -> str:
    """Which kind of Failure it is."""
    if isinstance(error, httpx.TimeoutException):
        return "late"
    if isinstance(error, httpx.ConnectError):
        return "refused"
    return "reset" if isinstance(error, httpx.ReadError | httpx.WriteError) else "cut"


def kind_of_answer(answer: httpx.Response) -> str:
    """Which kind of Failure an answer other than 200 is."""
    refused = answer.status_code in (429, 503) and "retry-after" in answer.headers
    return "unavailable" if refused else "failed"


@dataclass
class Tally:
    """What the load saw."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Job id -> seed of its training."""
    sent_twice: int = 0
    doubled: list[str] = field(default_factory=list)
    """Keys that gave more than one job."""
    cancelled: set[str] = field(default_factory=set)
    """Jobs whose cancellation was answered 202."""
    uploaded: dict[str, str] = field(default_factory=dict)
    """Dataset, answered 201 -> the digest in that answer."""
    upload_failures: Counter[str] = field(default_factory=Counter)
    """How many ended so: a status, or the name of an error of the connection."""
    embedded: int = 0
    embed_failures: list[Failure] = field(default_factory=list)
    slowest_s: float = 0.0
    """Until an embedding was answered or given up."""
    wrong_vectors: int = 0
    submit_failures: int = 0
    refusal: str = ""
    """How the last submission that was not accepted ended."""
    last_embedded: float = 0.0
    """When an embedding was answered last."""


class Load:
    """``prepare`` once, then ``start`` … ``stop``."""

    def __init__(
        self,
        stack: Stack,
        *,
        seed: int,
        seeds: int = 2,
        epochs: int = 12,
        in_flight: int = 2,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.patience_s = patience_s
        self.stack, self.epochs, self.in_flight = stack, epochs, in_flight
        self.seed, self.random = seed, random.Random(seed)
        self.seeds = tuple(range(1, seeds + 1))
        self.tally = Tally()
        self.references: dict[int, str] = {}
        """Seed -> the job that trained it undisturbed."""
        self._run = f"{seed}-{stack.mark}"
        self._over = threading.Event()
        self._pause = threading.Event()
        self._threads: list[threading.Thread] = []
        self.submitting = False
        """Whether a submission is under way; while there are pauses, none begins."""
        self.readers = Readers(stack, self.tally.accepted, self._over, seed)
        self._images = npy(np.random.default_rng(seed).integers(0, 256, (4, 8, 8), dtype=np.uint8))
        self._first: np.ndarray | None = None

    def prepare(self, patience_s: float = 240) -> None:
        """Train each seed once in peace: what the weights of every later job are compared with."""
        with client(self.stack) as http:
            for seed in self.seeds:
                self.references[seed] = self._accepted(http, seed, patience_s)
            for job_id in self.references.values():
                wait_for(lambda job_id=job_id: self._ended(http, job_id), "a reference training", patience_s)
            wait_for(lambda: self._embed(http), "the first embedding", 60)
        self.tally.embed_failures.clear()
        self.tally.submit_failures = 0

    def _accepted(self, http: httpx.Client, seed: int, patience_s: float) -> str:
        """The job of a seed's reference training; a busy machine may answer the first request too late."""
        key = f"{self._run}-reference-{seed}"
        try:
            return str(wait_for(lambda: self._submit(http, seed, "reference", key), "accepted", patience_s))
        except TimeoutError as error:
            raise RuntimeError(f"no reference training was accepted: {self.tally.refusal}") from error

    def _ended(self, http: httpx.Client, job_id: str) -> bool:
        job = http.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running", "succeeded"):
            raise RuntimeError(f"the reference training ended {job['state']}: {job['failure']}")
        return bool(job["state"] == "succeeded")

    def start(self) -> None:
        """Begin."""
        several = [self._embedding] * EMBEDDERS + [self.readers.run] * READERS
        for action in (self._submitting, self._uploading, *several):
            self._threads.append(threading.Thread(target=action, name=action.__name__, daemon=True))
            self._threads[-1].start()

    def pause_submissions(self) -> None:
        """No new jobs, so that those that are there can end."""
        self._pause.set()

    def resume_submissions(self) -> None:
        """New jobs again."""
        self._pause.clear()

    def stop(self) -> None:
        """End the load."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _submitting(self) -> None:
        number = 0
        while not self._over.wait(0.3):
            self.submitting = True
            if not self._pause.is_set() and self._wanted():
                number += 1
                self._submission(number)
            self.submitting = False

    def _submission(self, number: int) -> None:
        seed, name = self.random.choice(self.seeds), self.random.choice(NAMES)
        twice, cancelled = self.random.random() < TWICE, self.random.random() < CANCELLED
        pause_s, submit = self.random.uniform(0, 4), self._submit_twice if twice else self._submit
        job_id = self._insisting(lambda http: submit(http, seed, name, f"{self._run}-{number}"))
        if job_id and cancelled and not self._over.wait(pause_s):
            self._insisting(lambda http: self._cancel(http, job_id))

    def _insisting(self, action: Any) -> Any:
        """The first true answer, asked for until there is one or the load ends; each time on a new connection."""
        while not self._over.is_set():
            with client(self.stack) as http:
                if found := action(http):
                    return found
            time.sleep(0.3)
        return None

    def _wanted(self) -> bool:
        """Whether fewer jobs than wanted are alive; when the API does not answer, no."""
        try:
            with client(self.stack, timeout=5) as http:
                states = [http.get("/v1/jobs", params={"state": s}).json() for s in ("queued", "running")]
            return sum(len(page["items"]) for page in states) < self.in_flight
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def _submit(self, http: httpx.Client, seed: int, name: str, key: str) -> str:
        """The id of the accepted job; empty if it was not accepted."""
        body = {"spec": spec(seed, self.epochs), "encoder": name}
        try:
            answer = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
        except httpx.HTTPError as error:
            self.tally.submit_failures += 1
            self.tally.refusal = repr(error)
            return ""
        if answer.status_code != 202:
            self.tally.refusal = f"{answer.status_code} {answer.text[:200]}"
            self.tally.submit_failures += answer.status_code != 409  # the same key is being answered
            return ""
        job_id = str(answer.json()["id"])
        self.tally.accepted[job_id] = seed
        return job_id

    def _submit_twice(self, http: httpx.Client, seed: int, name: str, key: str) -> str:
        """The same request twice at once, and again until both are answered: one job."""
        with ThreadPoolExecutor(2) as both:
            ids = list(both.map(lambda _: self._submit(http, seed, name, key), range(2)))
        if not all(ids):
            return ""
        self.tally.sent_twice += 1
        if ids[0] != ids[1]:
            self.tally.doubled.append(f"the key {key} gave two jobs, {ids[0]} and {ids[1]}")
        return ids[0]

    def _cancel(self, http: httpx.Client, job_id: str) -> bool:
        """Whether the question is settled: the job is being cancelled, or has ended already."""
        try:
            answer = http.post(f"/v1/jobs/{job_id}/cancel")
        except httpx.HTTPError:
            return False
        if answer.status_code == 202:
            self.tally.cancelled.add(job_id)
        return answer.status_code in (202, 409)

    def _uploading(self) -> None:
        """A small dataset, a new one each time; what was not answered 201 is given up."""
        dice, number = np.random.default_rng(self.seed), 0
        while not self._over.wait(UPLOAD_EVERY_S if number else 0):
            number += 1
            if self._pause.is_set():
                continue
            name, images = f"chaos-{number}", io.BytesIO()
            np.savez(images, images=dice.integers(0, 256, (40, 8, 8), dtype=np.uint8))
            try:
                with client(self.stack, timeout=60) as http:
                    file = ("images.npz", images.getvalue())
                    answer = http.post("/v1/datasets", data={"name": name}, files={"file": file})
            except httpx.HTTPError as error:
                self.tally.upload_failures[type(error).__name__] += 1
                continue
            if answer.status_code == 201:
                self.tally.uploaded[name] = answer.json()["digest"]
            else:
                self.tally.upload_failures[str(answer.status_code)] += 1

    def _embedding(self) -> None:
        http = client(self.stack, self.patience_s)
        while not self._over.wait(EMBED_EVERY_S):
            if not self._embed(http):
                http.close()
                http = client(self.stack, self.patience_s)
        http.close()

    def _embed(self, http: httpx.Client) -> bool:
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        began, asking = time.monotonic(), threading.Timer(self.patience_s / 2, self._ask_where)
        asking.start()
        try:
            answer = http.post("/v1/encoders/reference@1/embed", content=self._images, headers=headers)
        except httpx.HTTPError as error:
            return self._failed(began, kind_of(error), repr(error))
        finally:
            asking.cancel()
            self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began)
        if answer.status_code != 200:
            return self._failed(began, kind_of_answer(answer), f"{answer.status_code} {answer.text[:200]}")
        vectors = np.load(io.BytesIO(answer.content), allow_pickle=False)
        if self._first is None:
            self._first = vectors
        if not np.allclose(vectors, self._first, atol=CLOSE):
            self.tally.wrong_vectors += 1
        self.tally.embedded += 1
        self.tally.last_embedded = time.monotonic()
        return True

    def _ask_where(self) -> None:
        for pid in self.stack.pids("api"):
            with contextlib.suppress(ProcessLookupError):
                if catches(pid, signal.SIGUSR1):
                    os.kill(pid, signal.SIGUSR1)

    def _failed(self, began: float, kind: str, words: str) -> bool:
        self.tally.embed_failures.append(Failure(began, time.monotonic(), kind, words))
        return False
