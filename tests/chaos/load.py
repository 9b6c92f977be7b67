"""The load under which faults are injected: a seeded stream of tiny trainings, and embeddings all the time.

A submission is repeated with its Idempotency-Key until it is answered 202, as a careful client would do it: from then
on the job is accepted and must not be lost. Every answer to an embedding must be the same vectors as the first.
"""

from __future__ import annotations

import io
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.chaos.processes import wait_for
from tests.chaos.stacks import Stack

NAMES = ("chaos-a", "chaos-b", "chaos-c")
EMBED_EVERY_S = 0.1
CLOSE = 1e-5


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


def client(stack: Stack, timeout: float = 20) -> httpx.Client:
    """A client without the proxies of this machine."""
    return httpx.Client(base_url=stack.url, trust_env=False, timeout=timeout)


def npy(images: np.ndarray) -> bytes:
    """The array as a file."""
    out = io.BytesIO()
    np.save(out, images)
    return out.getvalue()


@dataclass
class Tally:
    """What the load saw."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Job id -> seed of its training."""
    embedded: int = 0
    embed_failures: int = 0
    wrong_vectors: int = 0
    submit_failures: int = 0
    last_embedded: float = 0.0
    """When an embedding was answered last."""


class Load:
    """``prepare`` once, then ``start`` … ``stop``."""

    def __init__(
        self, stack: Stack, *, seed: int, seeds: int = 2, epochs: int = 12, in_flight: int = 2
    ) -> None:
        self.stack, self.epochs, self.in_flight = stack, epochs, in_flight
        self.random = random.Random(seed)
        self.seeds = tuple(range(1, seeds + 1))
        self.tally = Tally()
        self.references: dict[int, str] = {}
        """Seed -> the job that trained it undisturbed."""
        self._run = f"{seed}-{stack.mark}"
        self._over = threading.Event()
        self._pause = threading.Event()
        self._threads: list[threading.Thread] = []
        self._images = npy(np.random.default_rng(seed).integers(0, 256, (4, 8, 8), dtype=np.uint8))
        self._first: np.ndarray | None = None

    def prepare(self, patience_s: float = 240) -> None:
        """Train each seed once in peace: what the weights of every later job are compared with."""
        with client(self.stack) as http:
            for seed in self.seeds:
                self.references[seed] = self._submit(http, seed, "reference", f"{self._run}-reference-{seed}")
            for job_id in self.references.values():
                wait_for(lambda job_id=job_id: self._ended(http, job_id), "a reference training", patience_s)
            wait_for(lambda: self._embed(http), "the first embedding", 60)

    def _ended(self, http: httpx.Client, job_id: str) -> bool:
        job = http.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running", "succeeded"):
            raise RuntimeError(f"the reference training ended {job['state']}: {job['failure']}")
        return bool(job["state"] == "succeeded")

    def start(self) -> None:
        """Begin."""
        for action in (self._submitting, self._embedding):
            self._threads.append(threading.Thread(target=action, name=action.__name__, daemon=True))
            self._threads[-1].start()

    def pause_submissions(self) -> None:
        """No new jobs, so that those that are there can end."""
        self._pause.set()

    def stop(self) -> None:
        """End the load."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _submitting(self) -> None:
        number = 0
        while not self._over.wait(0.3):
            if self._pause.is_set() or not self._wanted():
                continue
            number += 1
            seed, name = self.random.choice(self.seeds), self.random.choice(NAMES)
            while not self._over.is_set():
                with client(self.stack) as http:
                    if self._submit(http, seed, name, f"{self._run}-{number}"):
                        break
                time.sleep(0.3)

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
        except httpx.HTTPError:
            self.tally.submit_failures += 1
            return ""
        if answer.status_code != 202:
            self.tally.submit_failures += 1
            return ""
        job_id = str(answer.json()["id"])
        self.tally.accepted[job_id] = seed
        return job_id

    def _embedding(self) -> None:
        http = client(self.stack)
        while not self._over.wait(EMBED_EVERY_S):
            if not self._embed(http):
                http.close()
                http = client(self.stack)
        http.close()

    def _embed(self, http: httpx.Client) -> bool:
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        try:
            answer = http.post("/v1/encoders/reference@1/embed", content=self._images, headers=headers)
        except httpx.HTTPError:
            self.tally.embed_failures += 1
            return False
        if answer.status_code != 200:
            self.tally.embed_failures += 1
            return False
        vectors = np.load(io.BytesIO(answer.content), allow_pickle=False)
        if self._first is None:
            self._first = vectors
        if not np.allclose(vectors, self._first, atol=CLOSE):
            self.tally.wrong_vectors += 1
        self.tally.embedded += 1
        self.tally.last_embedded = time.monotonic()
        return True
