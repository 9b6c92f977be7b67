// A training of a generator from a form.

import { all, has, openapi } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { counted, number } from "/static/lib/numbers.js";
import { link } from "/static/lib/router.js";
import { empty, head, linkButton } from "/static/parts/bits.js";
import { labelled } from "/static/parts/form.js";
import { trainer } from "/static/parts/trainer.js";
import { NOT_HERE } from "/static/views/generators.js";
import { LEAD, choose, startingPoint } from "/static/views/train.js";

const ROWS = [["model"], ["epochs", "evaluation"]];
const TITLE = "Train a generator";

export async function generate(_, query, signal) {
  if (!(await has("/v1/generators"))) return [head(TITLE), empty(NOT_HERE)];
  const [encoders, document_, before] = await Promise.all([all("/v1/encoders"), openapi(), startingPoint(query.get("from"))]);
  if (!encoders.length) return [head(TITLE), empty("A generator draws from the law of an encoder, and there is none yet.", linkButton("Train an encoder", link("/train")))];
  const components = document_.components.schemas;
  const source = h("select", { required: true, onchange: () => { suggest(); form.check(); } },
    encoders.map(versionOf).map((version) => h("option", { value: version }, version)));
  choose(source, before?.spec.source ?? query.get("source"));
  const form = trainer({
    schema: components.GeneratorSpec, components, signal, makes: "generator", rows: ROWS, told,
    subject: labelled("source", source, "whose law is drawn from", "/spec/source"),
    given: () => ({ kind: "generator", source: source.value }),
  });
  const suggest = () => form.suggest(nameFor(source.value.split("@")[0]));
  suggest();
  if (before) await form.set(before);
  await form.check();
  return [head(TITLE, LEAD), form.node];
}

export const versionOf = ({ name, version }) => `${name}@${version}`;

/** What a generator is called, as long as nobody says otherwise. */
export const nameFor = (encoder) => `${encoder.slice(0, 50)}-pictures`;

function told({ spec, resolved }) {
  return [
    ["A picture is drawn from", counted(resolved.dim, "number"), `into ${resolved.image_size} × ${resolved.image_size} pixels`],
    ["Noise σ", number(spec.condition_noise, 3), "added to each embedding"],
  ];
}
