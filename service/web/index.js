"use strict";
// Version and readiness, as the server tells them to everybody.
const line = document.getElementById("state");

async function show() {
  const health = await (await fetch("/healthz")).json();
  const ready = await (await fetch("/readyz")).json();
  const degraded = ready.degraded ?? [];
  const state = ready.status === "ready" ? "ready" : "not ready";
  line.textContent = `version ${health.version}, ${state}`;
  if (degraded.length) line.textContent += `; degraded: ${degraded.join(", ")}`;
}

show().catch(() => { line.textContent = "the server does not answer"; });
