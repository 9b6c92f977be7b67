// Lines over steps as SVG: the information Î of one or more trainings, against what the channel can carry.

import { h, s } from "/static/lib/dom.js";
import { extent, number, ticks } from "/static/lib/numbers.js";

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [272, 46, 14, 20, 38];
export const LINES = 6;

/** A chart; `draw(lines, levels)` with lines [{ name, points: [[x, y], ...] }] and levels [{ name, y }]. */
export function curve({ title, x, y }) {
  const svg = s("svg", { role: "img", "aria-label": title, class: "chart" });
  const legend = h("ul", { class: "legend" });
  let shown = [[], []];
  const draw = (lines, levels = []) => {
    shown = [lines, levels];
    const width = svg.getBoundingClientRect().width || 720;
    const points = lines.flatMap((line) => line.points);
    const [, right] = extent(points.map(([at]) => at).concat(1));
    const [low, high] = extent(points.map(([, value]) => value).concat(0, levels.map((level) => level.y)));
    const top = high + (high - low) * 0.06 || 1;
    const at = ([a, b]) => [LEFT + (a / right) * (width - LEFT - RIGHT), HEIGHT - BOTTOM - ((b - low) / (top - low)) * (HEIGHT - TOP - BOTTOM)];
    svg.replaceChildren(
      ...grid({ right, low, top, at, x, y, width }),
      ...levels.flatMap((level, i) => levelLine(level, i, at, right)),
      ...lines.map((line, i) => line.points.length > 0 && drawn(line.points.map(at), `l${i % LINES}`)).filter(Boolean));
    const last = lines.map((line) => `${line.name} ${number(line.points.at(-1)?.[1] ?? null)}`);
    svg.setAttribute("aria-label", [title, ...last, ...levels.map((level) => `${level.name} ${number(level.y)}`)].join(", "));
    legend.replaceChildren(
      ...lines.map((line, i) => h("li", {}, sample(`line l${i % LINES}`), ` ${line.name}`)),
      ...levels.map((level, i) => h("li", {}, sample(`level d${i}`), ` ${level.name} ${number(level.y)}`)));
  };
  new ResizeObserver(() => draw(...shown)).observe(svg);
  return { node: h("figure", { class: "curve" }, svg, legend), draw };
}

/** A line through places; one alone is a dot. */
function drawn(places, kind) {
  if (places.length === 1) return s("circle", { class: `point ${kind}`, cx: places[0][0], cy: places[0][1], r: 4 });
  return s("path", { class: `line ${kind}`, d: `M${places.map((place) => place.map((value) => value.toFixed(1)).join(" ")).join("L")}` });
}

/** A line as the legend shows it. */
const sample = (kind) => s("svg", { class: "key", viewBox: "0 0 26 8", "aria-hidden": "true" }, s("line", { class: kind, x1: 0, x2: 26, y1: 4, y2: 4 }));

function levelLine(level, i, at, right) {
  const [[x1, y1], [x2]] = [at([0, level.y]), at([right, level.y])];
  return [s("line", { class: `level d${i}`, x1, x2, y1, y2: y1 })];
}

function grid({ right, low, top, at, x, y, width }) {
  const across = ticks(0, right, width / 120).filter(Number.isInteger).map((value) => {
    const [left] = at([value, low]);
    return s("text", { class: "tick", x: left, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(value));
  });
  const up = ticks(low, top, 4).flatMap((value) => {
    const [, height] = at([0, value]);
    return [
      s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: height, y2: height }),
      s("text", { class: "tick", x: LEFT - 8, y: height + 4, "text-anchor": "end" }, String(value).replace("-", "−")),
    ];
  });
  const names = [
    s("text", { class: "axis", x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, x),
    s("text", { class: "axis", x: 4, y: TOP - 8 }, y),
  ];
  return [...up, ...across, ...names];
}
