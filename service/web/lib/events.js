// Server-sent events over fetch: EventSource cannot send a key. Resumes with Last-Event-ID until the stream has ended.

import { Problem, authorization, request } from "/static/lib/api.js";

const AGAIN_MS = 1000;

/**
 * Call `onEvent({ id, type, at, data })` for each event; resolves when the job has ended or `signal` is aborted.
 *
 * `onLost(error)` once the server cannot be asked, `onLost(null)` once it can again.
 */
export async function follow(path, onEvent, signal, onLost) {
  let last = 0;
  let ended = false;
  let lost = false;
  const mark = (error) => {
    if (lost !== Boolean(error)) onLost(error);
    lost = Boolean(error);
  };
  const take = (event) => {
    last = event.id;
    ended ||= event.type === "state" && ["succeeded", "failed", "cancelled"].includes(event.data.state);
    onEvent(event);
  };
  while (!ended && !signal.aborted) {
    try {
      const headers = { ...authorization(), ...(last ? { "Last-Event-ID": String(last) } : {}) };
      const response = await request(path, { accept: "text/event-stream", headers, signal });
      mark(null);
      await readAll(response.body, take);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
      if (error instanceof Problem) mark(error); // a stream that broke off is asked for again first
    }
    if (!ended) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function readAll(stream, take) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const messages = (rest + value).split("\n\n");
    rest = messages.pop();
    for (const message of messages) {
      const data = message.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length) take(JSON.parse(data.join("\n")));
    }
  }
}
