// Every request of the dashboard: the key, problems (RFC 9457), uploads with progress. Nothing leaves the origin.

const KEY = "nidim-key";

/** A refusal of the server; `errors` is a list of { pointer, detail, parameter? }. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "unknown";
    this.errors = body.errors ?? [];
    this.requestId = body.request_id;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The headers that every request has. */
export function authorization() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}

/** The response; raises Problem. `json` is sent as JSON, `body` as it is. */
export async function request(path, { method = "GET", json, body, headers = {}, signal, accept = "application/json" } = {}) {
  const sent = { Accept: accept, ...authorization(), ...headers };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "unreachable", detail: "The server does not answer. Is it still running?" });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

export const get = async (path, options) => (await request(path, options)).json();
export const post = async (path, json, options) => (await request(path, { method: "POST", json, ...options })).json();
export const remove = (path) => request(path, { method: "DELETE" });

/** All items of a list, page by page, at most `most`. */
export async function all(path, most = 1000) {
  const found = [];
  let cursor = null;
  do {
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=200${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && found.length < most);
  return found;
}

/** Send a form; `onProgress(share, sentBytes)` while it goes. The answer's JSON; raises Problem. */
export function upload(path, form, { onProgress, headers = {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", path);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...authorization(), ...headers })) {
      sending.setRequestHeader(name, value);
    }
    sending.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress?.(event.loaded / event.total, event.loaded);
    });
    sending.addEventListener("load", () => {
      const body = parsed(sending.responseText);
      if (sending.status >= 200 && sending.status < 300) resolve(body);
      else reject(noted(new Problem(sending.status, body)));
    });
    sending.addEventListener("error", () => reject(new Problem(0, { detail: "The upload was interrupted; try it again." })));
    sending.addEventListener("abort", () => reject(new DOMException("given up", "AbortError")));
    signal?.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });
}

async function problemOf(response) {
  return noted(new Problem(response.status, parsed(await response.text())));
}

function noted(problem) {
  if (problem.status === 401) window.dispatchEvent(new CustomEvent("key-needed", { detail: problem }));
  return problem;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

let description;

/** The OpenAPI document, asked for until it is there. */
export async function openapi() {
  description ??= await get("/openapi.json");
  return description;
}

/** Whether this server has a path, as the document writes it. */
export async function has(path) {
  return path in (await openapi()).paths;
}
