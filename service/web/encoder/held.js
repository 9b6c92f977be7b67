// What the page of an encoder works on: held-out pictures, their embeddings and p-values, draws from the law. All of it
// lives in the browser; the server is asked once.

import { get, post, request } from "/static/lib/api.js";
import { readNpy, rowsOf, writeNpy } from "/static/lib/npy.js";
import { picturesOf } from "/static/lib/pictures.js";

const MOST = 500;
const NPY = "application/x-npy";

/** { pictures, rows, p, labels, classes, total } of held-out pictures of the encoder's dataset. */
export async function heldOut(encoder, signal) {
  const { image_size: size, channels } = encoder.resolved;
  const name = encoder.spec.dataset;
  const dataset = await get(`/v1/datasets/${name}`, { signal });
  const split = dataset.splits?.test ? "test" : "train";
  const pictures = await picturesOf(name, { split, limit: MOST, size, channels, labels: dataset.classes.length > 0 });
  const rows = await embed(encoder, new Blob([pictures.raw], { type: NPY }), { "Content-Type": NPY });
  const { p_value: p } = await score(encoder, rows);
  return { pictures, rows, p, labels: pictures.labels, classes: dataset.classes, total: dataset.splits[split], digest: dataset.digest, split };
}

/** The embeddings (n, d) of a body of images, which are no live ones: they count nothing in the watch for drift. */
export async function embed(encoder, body, headers = {}) {
  const answer = await request(`/v1/encoders/${encoder.id}/embed?watched=false`, { method: "POST", body, headers, accept: NPY });
  return rowsOf(readNpy(await answer.arrayBuffer()));
}

/** log_prob and p_value of rows. */
export async function score(encoder, rows) {
  const body = writeNpy(rows, encoder.dim);
  const answer = await request(`/v1/encoders/${encoder.id}/prior/score`, { method: "POST", body, headers: { "Content-Type": NPY } });
  return answer.json();
}

/** `n` draws from the law. */
export async function draws(encoder, n, seed = 0) {
  const answer = await request(`/v1/encoders/${encoder.id}/prior/sample`, { method: "POST", json: { n, seed }, accept: NPY });
  return rowsOf(readNpy(await answer.arrayBuffer()));
}

/** `steps` points from a to b, each as likely as a draw. */
export async function between(encoder, a, b, steps) {
  return (await post(`/v1/encoders/${encoder.id}/prior/interpolate`, { a: [...a], b: [...b], steps })).points;
}

/** A p-value in words. */
export function unusual(p, prior) {
  if (prior.kind === "sphere") return "on a sphere no direction is unusual";
  if (p === null) return "outside of the law";
  const share = p >= 0.1 ? `${Math.round(100 * p)} in 100` : p >= 0.001 ? `${Math.round(1000 * p)} in 1,000` : "fewer than 1 in 1,000";
  const verdict = p < 0.01 ? "very unusual" : p < 0.05 ? "unusual" : "nothing unusual";
  return `${verdict}: ${share} draws from the law lie farther out`;
}
