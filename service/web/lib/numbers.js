// The little linear algebra that the views need, on rows of numbers, and how numbers are written.

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

const dot = (a, b) => {
  let sum = 0;
  for (let j = 0; j < a.length; j += 1) sum += a[j] * b[j];
  return sum;
};

export function squaredDistance(a, b) {
  let sum = 0;
  for (let j = 0; j < a.length; j += 1) sum += (a[j] - b[j]) ** 2;
  return sum;
}

/** Indices of the `k` rows nearest to `point`, nearest first; `but` is left out. */
export function nearest(rows, point, k, but = -1) {
  return rows
    .map((row, i) => [squaredDistance(row, point), i])
    .filter(([, i]) => i !== but)
    .sort((a, b) => a[0] - b[0])
    .slice(0, k)
    .map(([, i]) => i);
}

/** The two directions of largest variance of `rows` (n, d), by power iteration; their share of the variance. */
export function principalPlane(rows) {
  const d = rows[0].length;
  const centre = Array.from({ length: d }, (_, j) => mean(rows.map((row) => row[j])));
  const centred = rows.map((row) => Array.from(row, (value, j) => value - centre[j]));
  const total = centred.reduce((sum, row) => sum + dot(row, row), 0);
  const directions = [];
  let explained = 0;
  for (let k = 0; k < 2; k += 1) {
    let direction = Array.from({ length: d }, (_, j) => 1 / (1 + ((j + k) % d)));
    let size = 0;
    for (let step = 0; step < 60; step += 1) {
      const next = new Array(d).fill(0);
      for (const row of centred) {
        const along = dot(row, direction);
        for (let j = 0; j < d; j += 1) next[j] += along * row[j];
      }
      for (const known of directions) {
        const along = dot(next, known);
        for (let j = 0; j < d; j += 1) next[j] -= along * known[j];
      }
      size = Math.sqrt(dot(next, next));
      direction = next.map((value) => value / (size || 1));
    }
    directions.push(direction);
    explained += size;
  }
  return { directions, share: total ? explained / total : 0 };
}

/** Rows as points of a plane: `axes` is two coordinates, or two directions. */
export function projected(rows, axes) {
  return rows.map((row) => axes.map((axis) => (Array.isArray(axis) ? dot(row, axis) : row[axis] ?? 0)));
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

/** A number with `digits` after the point and a true minus sign; a dash for none. */
export function number(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toFixed(digits).replace("-", "−");
}

/** A p-value: a small one is never written as none. */
export const probability = (p) => (p !== null && p !== undefined && p < 0.001 ? "< 0.001" : number(p, 3));

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

/** How many there are, with the word for one or for more of them. */
export const counted = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

export const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

export function bytes(size) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; size >= 1000 && i < units.length - 1; i += 1) size /= 1000;
  return `${size < 10 && i ? size.toFixed(1) : Math.round(size)} ${units[i]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 10) return "just now";
  return seconds < 86_400 ? `${duration(seconds)} ago` : new Date(time).toLocaleDateString();
}
