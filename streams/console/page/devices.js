// Devices by anomaly, and one of them in full.

import { sparkline } from "/charts.js";
import { at, element, facts, number, precise, scrolling, table, whole } from "/parts.js";

const rows = new Map();
let shown = [], wanted = "", pipeline = "", open = null;

export function choose(name) {
  pipeline = name;
  rows.clear();
  at("devices").replaceChildren();
}

export function devices(found) {
  shown = found.ranked;
  at("known").textContent = found.known > shown.length
    ? `${whole(shown.length)} of ${whole(found.known)} devices` : `${whole(found.known)} devices`;
  draw();
}

at("find").addEventListener("input", (event) => {
  wanted = event.target.value.toLowerCase();
  draw();
});

// Enter looks up a device that is not among those ranked highest.
at("find").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.value) drill(event.target.value);
});

function draw() {
  const body = at("devices");
  const resting = body.matches(":hover") || body.contains(document.activeElement);
  const seen = new Set();
  for (const device of shown) {
    if (!device.name.toLowerCase().includes(wanted)) continue;
    seen.add(device.name);
    const row = rows.get(device.name) || added(device.name);
    update(row, device);
    if (!resting || !row.parentNode) body.append(row);
  }
  for (const [name, row] of rows) {
    if (!seen.has(name) && !(resting && row.contains(document.activeElement))) {
      row.remove();
      rows.delete(name);
    }
  }
}

function added(name) {
  const row = document.createElement("tr");
  const button = element("button", name);
  button.type = "button";
  button.addEventListener("click", () => drill(name));
  row.insertCell().append(button);
  for (const kind of ["number", "number", "", "number"]) row.append(element("td", "", kind));
  rows.set(name, row);
  return row;
}

function update(row, device) {
  const [, highest, newest, scores, flagged] = row.cells;
  highest.textContent = number(device.highest);
  newest.textContent = number(device.score);
  sparkline(scores, device.scores);
  flagged.textContent = whole(device.flagged);
  row.classList.toggle("flagged", device.highest >= 0.5);
}

async function drill(name) {
  open = name;
  at("device-name").textContent = name;
  at("device-body").replaceChildren(element("p", "reading its features"));
  if (!at("device").open) at("device").showModal();
  const answer = await fetch(
    `/device/${encodeURIComponent(pipeline)}?name=${encodeURIComponent(name)}`);
  if (open !== name) return;
  if (!answer.ok) {
    at("device-body").replaceChildren(element("p", await answer.text(), "bad"));
    return;
  }
  const found = await answer.json();
  if (open === name) show(found);
}

at("device").addEventListener("close", () => { open = null; });

function show(found) {
  const chart = element("div");
  sparkline(chart, found.scores, 400, 60);
  const newest = found.predictions[0];
  const list = element("dl");
  facts(list, [
    ["Newest score", newest ? `${number(newest.score, 4)}, ${newest.label}` : "–"],
    ["Flagged from", number(found.threshold, 4)],
    ["Confidence", newest ? number(newest.confidence) : "–"],
    ...Object.entries(newest?.values || {}).map(([name, value]) => [name, precise(value)]),
    ["Highest of late", number(found.highest, 4)],
    ["Flagged", whole(found.flagged)],
  ]);
  const told = found.features.map((f) => [
    f.feature, f.input ? "yes" : "", precise(f.value), precise(f.usual),
    f.apart === null ? "–" : number(f.apart, 1), `${whole(f.age_ms)} ms`,
  ]);
  const last = found.predictions.map((p) => [
    p.time, number(p.score, 4), p.label, p.tier, p.flags.join(", "), p.model, p.source,
  ]);
  at("device-body").replaceChildren(
    list, chart,
    element("h3", "Why it stands out"),
    element("p", why(found), "why"),
    scrolling(table("Features, those that stand out first",
      ["Feature", "Model input", "#Now", "#Usual", "#Spreads apart", "#Age"], told)),
    element("p", `Usual is the median of ${whole(found.peers)} other devices now; a spread is ` +
      "their typical distance from it. It says what is unusual, not how the model weighs it.",
      "hint"),
    element("h3", "Last predictions"),
    scrolling(table("Last predictions, newest first",
      ["Time", "#Score", "Label", "Tier", "Flags", "Model", "Source"], last)),
    ...(newest ? [element("p", `The newest, from its event to its summary: headrace explain ` +
      `${newest.id} --pipeline ${pipeline}`, "hint")] : []),
  );
}

function why(found) {
  const apart = found.features.filter((f) => f.apart !== null && Math.abs(f.apart) >= 3);
  const inputs = apart.filter((f) => f.input);
  const chosen = (inputs.length ? inputs : apart).slice(0, 3);
  if (!chosen.length) return "None of its features is far from what is usual.";
  return chosen.map((f) => `${f.feature} is ${precise(f.value)}, usually ${precise(f.usual)}`)
    .join("; ") + ".";
}
