// What was chosen for a training: its settings without those that are the defaults anyway, so that they follow what is
// changed (σ, say, another d).

import { post } from "/static/lib/api.js";

/** As little of `spec` as the server completes to the same; `order` names the fields in the order that they are tried. */
export async function chosen(spec, order, signal) {
  const completed = async (part) => JSON.stringify((await post("/v1/jobs/check", { spec: part }, { signal })).spec);
  const whole = await completed(spec).catch(() => null);
  if (whole === null) return spec;
  let kept = spec;
  const drop = async (paths) => {
    const less = without(kept, paths);
    if ((await completed(less).catch(() => null)) === whole) {
      kept = less;
    } else if (paths.length > 1) {
      const half = Math.ceil(paths.length / 2);
      await drop(paths.slice(0, half));
      await drop(paths.slice(half));
    }
  };
  await drop(order.map((key) => [key]));
  for (const key of order) {
    const inner = Object.keys(kept[key]?.kind ? kept[key] : {}).filter((name) => name !== "kind");
    if (inner.length) await drop(inner.map((name) => [key, name]));
  }
  return kept;
}

function without(spec, paths) {
  const less = structuredClone(spec);
  for (const [key, inner] of paths) delete (inner ? less[key] : less)[inner ?? key];
  return less;
}
