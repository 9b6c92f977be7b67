// Points of a plane on a canvas: hover, click and arrow keys reach every one; marks stand on top.

import { h } from "/static/lib/dom.js";
import { ticks } from "/static/lib/numbers.js";

const PAD = 26;
const REACH = 14;
export const COLOURS = ["#4e79d6", "#e8833a", "#3fa66a", "#d6514f", "#9069c8", "#a1745e", "#dd76b4", "#7f868d", "#b3a52b", "#38afc4"];

/** { node, draw, mark }: `onPoint(i, how)` with how "over" or "chosen", i null when nothing is near. */
export function scatter({ title, onPoint = () => {} }) {
  const canvas = h("canvas", { class: "scatter", tabindex: "0", role: "img", "aria-label": title });
  const state = { points: [], colours: [], limits: [[-1, 1], [-1, 1]], marks: [], over: null };
  const watcher = new ResizeObserver(() => paint(canvas, state));
  watcher.observe(canvas);
  canvas.addEventListener("transitionend", () => paint(canvas, state)); // of its colour: the theme has changed
  const point = (i, how) => {
    state.over = i;
    paint(canvas, state);
    onPoint(i, how);
  };
  canvas.addEventListener("pointerenter", () => { state.over = null; }); // what the keys chose may no longer be what is told
  canvas.addEventListener("pointermove", (event) => {
    const i = at(canvas, state, event);
    if (i !== state.over) point(i, "over");
  });
  canvas.addEventListener("pointerleave", () => point(null, "over"));
  canvas.addEventListener("click", (event) => {
    const i = at(canvas, state, event);
    if (i !== null) point(i, "chosen");
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && state.points.length) {
      event.preventDefault();
      point(((state.over ?? -step) + step + state.points.length) % state.points.length, "over");
    } else if ((event.key === "Enter" || event.key === " ") && state.over !== null) {
      event.preventDefault();
      point(state.over, "chosen");
    }
  });
  return {
    node: canvas,
    draw(points, { colours = [], limits }) {
      Object.assign(state, { points, colours, limits, over: null });
      paint(canvas, state);
    },
    mark(marks) {
      state.marks = marks;
      paint(canvas, state);
    },
  };
}

function placer({ limits }, width, height) {
  const [[left, right], [low, high]] = limits;
  return ([x, y]) => [
    PAD + ((x - left) / (right - left || 1)) * (width - 2 * PAD),
    height - PAD - ((y - low) / (high - low || 1)) * (height - 2 * PAD),
  ];
}

function at(canvas, state, event) {
  const box = canvas.getBoundingClientRect();
  const place = placer(state, box.width, box.height);
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [best, found] = [REACH ** 2, null];
  state.points.forEach((point, i) => {
    const [a, b] = place(point);
    const distance = (a - x) ** 2 + (b - y) ** 2;
    if (distance < best) [best, found] = [distance, i];
  });
  return found;
}

function paint(canvas, state) {
  const box = canvas.getBoundingClientRect();
  if (!box.width) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(name).trim();
  pen.scale(ratio, ratio);
  const place = placer(state, box.width, box.height);
  frame(pen, state, place, box, { line: colour("--chart-line"), text: style.color });
  const radius = Math.min(4.5, Math.max(2, 60 / Math.sqrt(state.points.length || 1)));
  pen.globalAlpha = 0.8;
  state.points.forEach((point, i) => dot(pen, place(point), radius, state.colours[i] ?? colour("--chart-neutral")));
  pen.globalAlpha = 1;
  if (state.over !== null) ring(pen, place(state.points[state.over]), 8, style.color);
  for (const { point, label, path } of state.marks) {
    if (path) trail(pen, path.map(place), style.color);
    if (point) star(pen, place(point), style.color, colour("--chart-mark"), label, box.width);
  }
}

function frame(pen, { limits }, place, box, { line, text }) {
  pen.strokeStyle = line;
  pen.fillStyle = text;
  pen.lineWidth = 1;
  pen.font = "11px system-ui, sans-serif";
  for (const value of ticks(...limits[0])) {
    const [x] = place([value, 0]);
    pen.beginPath();
    pen.moveTo(x, PAD / 2);
    pen.lineTo(x, box.height - PAD);
    pen.stroke();
    pen.textAlign = "center";
    pen.fillText(String(value).replace("-", "−"), x, box.height - PAD + 15);
  }
  for (const value of ticks(...limits[1])) {
    const [, y] = place([0, value]);
    pen.beginPath();
    pen.moveTo(PAD, y);
    pen.lineTo(box.width - PAD / 2, y);
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(String(value).replace("-", "−"), PAD - 4, y + 4);
  }
}

function dot(pen, [x, y], radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}

function ring(pen, [x, y], radius, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.stroke();
}

function trail(pen, points, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
  pen.setLineDash([]);
}

function star(pen, [x, y], ink, fill, label, width) {
  pen.fillStyle = fill;
  pen.strokeStyle = ink;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x, y - 8);
  pen.lineTo(x + 7, y);
  pen.lineTo(x, y + 8);
  pen.lineTo(x - 7, y);
  pen.closePath();
  pen.fill();
  pen.stroke();
  if (!label) return;
  pen.fillStyle = ink;
  pen.font = "600 12px system-ui, sans-serif";
  const fits = x + 10 + pen.measureText(label).width < width;
  pen.textAlign = fits ? "left" : "right";
  pen.fillText(label, fits ? x + 10 : x - 10, y + 4);
}
