// Lines as inline SVG. Every chart says in words what it shows.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A path through values, null where there is a gap; x and y give places.
function path(values, x, y) {
  let drawn = "", down = false;
  values.forEach((value, i) => {
    if (value === null || value === undefined) { down = false; return; }
    drawn += `${down ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    down = true;
  });
  return drawn;
}

// Scores between 0 and 1; `into` is drawn anew only where they changed.
export function sparkline(into, values, width = 120, height = 24) {
  const drawn = path(
    values,
    (i) => 1 + (i * (width - 2)) / Math.max(1, values.length - 1),
    (v) => height - 1 - Math.min(1, Math.max(0, v)) * (height - 2),
  );
  if (!into.firstChild) {
    const made = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
    made.append(svg("path", { class: "line" }));
    into.append(made);
  }
  const made = into.firstChild;
  if (made.firstChild.getAttribute("d") === drawn) return;
  made.firstChild.setAttribute("d", drawn);
  const told = values.filter((v) => v !== null);
  const last = told.length ? told[told.length - 1].toFixed(2) : "none";
  const most = told.length ? Math.max(...told).toFixed(2) : "none";
  made.setAttribute("aria-label", `last ${values.length} scores, newest ${last}, highest ${most}`);
}

// Two percentiles over time, milliseconds on a scale that begins at 0.
export function percentileLines(points) {
  const width = 520, height = 150, left = 64, bottom = 18;
  const most = Math.max(1, ...points.map((p) => p.p99 || 0)) * 1.1;
  const first = points.length ? points[0].at_s : 0;
  const span = Math.max(60, points.length ? points[points.length - 1].at_s - first : 0);
  const x = (i) => width - 4 - (1 - (points[i].at_s - first) / span) * (width - left - 4);
  const y = (v) => 4 + (1 - v / most) * (height - bottom - 8);
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const share of [0, 0.5, 1]) {
    const at = y(most * share);
    made.append(svg("path", { class: "axis", d: `M${left} ${at}H${width}` }));
    made.append(svg("text", { x: left - 5, y: at + 4, "text-anchor": "end" },
      `${(most * share).toFixed(most < 10 ? 1 : 0)} ms`));
  }
  made.append(svg("text", { x: left, y: height - 3 }, `${span} s ago`));
  made.append(svg("text", { x: width - 4, y: height - 3, "text-anchor": "end" }, "now"));
  made.append(svg("path", { class: "line", d: path(points.map((p) => p.p50), x, y) }));
  made.append(svg("path", { class: "line second", d: path(points.map((p) => p.p99), x, y) }));
  return made;
}
