// Latency over time of one device class, and of every hop.

import { at, element, fill, number, whole } from "/parts.js";
import { percentiles } from "/percentiles.js";

const ALL = "all";
let trend = {}, now_s = 0;

export function choose() {
  trend = {};
  at("latency-class").replaceChildren();
}

export function latency(found, hops, at_ms) {
  trend = found;
  now_s = at_ms / 1000;
  classes([...Object.keys(found), ...hops.map((hop) => hop.device_class)]);
  draw();
  everyHop(hops);
}

at("latency-class").addEventListener("change", draw);

// Of all classes together first; the choice stays while classes come.
function classes(names) {
  const select = at("latency-class");
  const known = new Set([...select.options].map((option) => option.value));
  for (const name of [ALL, ...names]) {
    if (known.has(name)) continue;
    known.add(name);
    const option = element("option", name);
    option.value = name;
    select.append(option);
  }
  at("latency-choice").hidden = known.size < 3;
}

function draw() {
  // Of one class alone nobody counts all of them together: it is the whole.
  const told = Object.keys(trend);
  const points = trend[at("latency-class").value] || (told.length === 1 ? trend[told[0]] : []);
  percentiles(points, now_s);
}

function everyHop(found) {
  const numeric = [false, false, true, true, true, true, true];
  at("hops").replaceChildren(...found.map((hop) => {
    const row = document.createElement("tr");
    fill(row, [
      hop.hop.replaceAll("_", " "), hop.device_class, whole(hop.count),
      ...[hop.p50_ms, hop.p95_ms, hop.p99_ms, hop.p999_ms].map((ms) => number(ms, 1)),
    ], numeric);
    return row;
  }));
}
