// A training of an encoder from a form.

import { all, get, openapi } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { count, counted, number } from "/static/lib/numbers.js";
import { head } from "/static/parts/bits.js";
import { labelled } from "/static/parts/form.js";
import { trainer } from "/static/parts/trainer.js";

const ROWS = [["encoder"], ["prior"], ["epochs", "evaluation"]];
const SMALL_SIDE = 32;
export const LEAD = "Leave what you do not know: every empty field shows the default that it will get.";

export async function train(_, query, signal) {
  const [datasets, document_, before] = await Promise.all([all("/v1/datasets"), openapi(), startingPoint(query.get("from"))]);
  const components = document_.components.schemas;
  const usable = datasets.filter((dataset) => dataset.available && dataset.state === "ready");
  const pictures = h("select", { required: true, onchange: () => { suggest(); form.check(); } },
    usable.map((dataset) => h("option", { value: dataset.name }, `${dataset.name} (${count(dataset.items)})`)));
  choose(pictures, before?.spec.dataset ?? query.get("dataset"));
  const form = trainer({
    schema: components.TrainSpec, components, signal, makes: "encoder", rows: ROWS, told,
    subject: labelled("dataset", pictures, "what to learn from", "/spec/dataset"),
    given: () => ({ dataset: pictures.value }),
    small: { settings: () => small(usable.find(({ name }) => name === pictures.value)), words: SMALL },
  });
  const suggest = () => form.suggest(`${pictures.value.slice(0, 55)}-encoder`);
  suggest();
  if (before) await form.set(before);
  await form.check();
  return [head("Train an encoder", LEAD), form.node];
}

const SMALL = `For a first look without a GPU: a small network, at most ${SMALL_SIDE} × ${SMALL_SIDE} pixels and a quick evaluation take minutes, where the default of colour pictures takes hours.`;

/** Settings of a training of minutes; an image size only for pictures that are larger. */
function small(dataset) {
  const { width = 0, height = 0 } = dataset?.image ?? {};
  return { encoder: { kind: "conv" }, evaluation: "quick", image_size: Math.min(width, height) > SMALL_SIDE ? SMALL_SIDE : undefined };
}

/** The job whose settings are the start of a new one. */
export const startingPoint = (id) => (id ? get(`/v1/jobs/${id}`) : null);

/** Choose `wanted`. What is none of the options becomes one: what the server says of it stands beside it. */
export function choose(select, wanted) {
  if (!wanted) return;
  if (![...select.options].some((option) => option.value === wanted)) select.append(h("option", { value: wanted }, wanted));
  select.value = wanted;
}

function told({ resolved }) {
  return [
    ["Each picture becomes", counted(resolved.dim, "number"), `from ${resolved.image_size} × ${resolved.image_size} pixels`],
    resolved.capacity_nats && ["Capacity C", `${number(resolved.capacity_nats)} nats`, resolved.sigma ? `noise σ ${number(resolved.sigma, 3)}` : `noise ε ${number(resolved.epsilon, 3)}`],
  ];
}
