// Takes snapshots as they come and draws them.

import { choose, devices } from "/devices.js";
import { choose as chooseLatency, latency } from "/latency.js";
import { choose as chooseLetters, letters } from "/letters.js";
import { at, element, facts, fill, number, precise, scrollingIn, size, table, whole } from "/parts.js";

let events = null;

async function begin() {
  const names = await (await fetch("/pipelines")).json();
  at("pipeline").replaceChildren(...names.map((name) => {
    const option = element("option", name);
    option.value = name;
    return option;
  }));
  at("pipeline").addEventListener("change", () => follow(at("pipeline").value));
  if (names.length) follow(names[0]);
  else state("no pipeline is up yet; load the page again", "bad");
}

function follow(name) {
  if (events) events.close();
  choose(name);
  chooseLatency();
  chooseLetters(name);
  events = new EventSource(`/events/${encodeURIComponent(name)}`);
  events.onmessage = (event) => draw(JSON.parse(event.data));
  events.onerror = () => state(events.readyState === EventSource.CLOSED
    ? "not connected; load the page again" : "not connected; trying again", "bad");
}

function state(text, kind) {
  // A live region speaks when it changes: only then.
  if (at("state").textContent !== text) at("state").textContent = text;
  at("state").className = kind;
}

function draw(found) {
  const view = found.view;
  state(view.ready ? "ready" : "not ready", view.ready ? "good" : "bad");
  flow(found);
  stages(view.stages);
  trouble([...view.reasons, ...found.trouble, ...view.incidents.filter((i) => i.end_ms === null)
    .map((i) => `${i.severity}: objective ${i.which}.${i.objective}, cause ${i.cause}`)]);
  devices(found.devices);
  latency(found.trend, view.latencies, found.at_ms);
  model(found.model);
  budgets(view.budgets);
  drift(view.drift);
  letters(found.letters);
  egress(found.bytes);
  cost(view.cost);
  probes(view.canary);
}

function flow(found) {
  const stages = Object.fromEntries(found.view.stages.map((stage) => [stage.stage, stage]));
  for (const name of ["enrich", "serve"]) {
    const stage = stages[name];
    at(`box-${name}`).classList.toggle("down", Boolean(stage) && stage.running < stage.workers);
    at(`edge-${name}`).textContent = stage
      ? `${whole(stage.per_s.in || 0)}/s, lag ${whole(stage.lag)}` : "not here";
  }
  const { enrich, serve } = stages;
  at("edge-features").textContent = enrich ? `${whole(enrich.per_s.out || 0)}/s` : "";
  at("edge-out").textContent = serve ? `${whole(serve.per_s.out || 0)}/s` : "";
  at("side-late").textContent = `late ${whole(enrich?.events.late || 0)}`;
  at("side-dead").textContent = `dead letter ${whole(enrich?.events.dead || 0)}`;
  at("side-model").textContent = `model ${found.model.name}`;
  at("edge-upstream").textContent = `summaries ${size(found.bytes.upstream)}`;
}

function stages(found) {
  const numeric = [false, true, true, true, true, true, true];
  at("stages").replaceChildren(...found.map((stage) => {
    const row = document.createElement("tr");
    fill(row, [
      stage.stage, `${stage.running}/${stage.workers}`, whole(stage.restarts), whole(stage.lag),
      whole(stage.per_s.in || 0),
      ...(stage.inside ? ["in", stage.inside] : [number(stage.cores), whole(stage.rss_mb)]),
    ], numeric);
    return row;
  }));
}

function trouble(lines) {
  at("trouble").hidden = !lines.length;
  at("trouble").replaceChildren(...lines.map((line) => element("li", line)));
}

function model(found) {
  const tiers = Object.values(found.tiers).reduce((a, b) => a + b, 0);
  const answered = found.rows + found.cached;
  facts(at("model"), [
    ["Name", `${found.name} v${found.version}`],
    ["Digest", found.digest || "–"],
    ["Inputs", `${found.inputs.length} features`],
    ["Threshold", number(found.threshold)],
    ["Tiers", Object.entries(found.tiers)
      .map(([tier, count]) => `${tier} ${((100 * count) / tiers).toFixed(0)} %`).join(", ") || "–"],
    ["From the cache", answered ? `${((100 * found.cached) / answered).toFixed(1)} %` : "–"],
    ["Rows per call", found.calls ? number(found.rows / found.calls, 1) : "–"],
  ]);
}

function budgets(found) {
  if (!found.length) {
    at("budgets").replaceChildren(element("p", "None declared: see [slo] of the pipeline file.",
      "hint"));
    return;
  }
  scrollingIn(at("budgets"), table("Error budgets",
    ["Objective", "#Good", "#Bad", "Budget left", "#Burn", "Alert"],
    found.map((b) => {
      const left = element("span");
      const meter = document.createElement("meter");
      Object.assign(meter, { min: 0, max: 1, low: 0.25, value: Math.max(0, b.left) });
      meter.setAttribute("aria-label", `budget left of ${b.which}.${b.name}`);
      left.append(meter, ` ${(100 * b.left).toFixed(0)} %`);
      return [`${b.which}.${b.name}`, whole(b.good), whole(b.bad), left, number(b.burn),
        b.alert || ""];
    })));
}

function drift(found) {
  if (!found.length) {
    at("drift").replaceChildren(element("p",
      "Nothing judged yet: see [observe.drift] of the pipeline file.", "hint"));
    return;
  }
  const largest = [...found].sort((a, b) => b.alarm - a.alarm || b.value - a.value).slice(0, 6);
  scrollingIn(at("drift"), table("Drift, the largest first",
    ["Quantity", "Class", "#Index", "#Distance", "#By chance", ""],
    largest.map((f) => [f.quantity, f.device_class, number(f.value, 3), number(f.distance, 3),
      number(f.limit, 3), f.alarm ? "drift" : ""])));
}

function egress(found) {
  const share = found.raw ? ` (${((100 * found.upstream) / found.raw).toFixed(2)} %)` : "";
  facts(at("egress"), [
    ["Raw, stays here", size(found.raw)],
    ["Summaries, to leave", `${size(found.upstream)}${share}`],
  ]);
}

function cost(found) {
  at("cost").hidden = !found;
  if (!found) return;
  const money = (value) => `${precise(value)} ${found.currency}`;
  const now = found.per_1000;
  facts(at("cost"), [
    ["1000 predictions", now ? money(now.cpu + now.egress) : "–"],
    ["The same in a cloud", now ? money(now.cloud) : "–"],
    ["Since the start", `${money(found.total.cpu + found.total.egress)}, in a cloud ` +
      `${money(found.total.cloud)}, saved by the cache ${money(found.total.saved)}`],
    ["Energy for 1000", found.joules === null ? "–"
      : `${number(found.joules, 2)} J ${found.energy === "rapl" ? "(measured)" : "(estimate)"}`],
  ]);
}

function probes(found) {
  at("probes").hidden = !found;
  if (!found) return;
  facts(at("probes"), [
    ["Probes", Object.entries(found.probes).map(([name, n]) => `${name} ${whole(n)}`).join(", ")
      || "–"],
    ["Answered in", found.took_ms === null ? "–" : `${number(found.took_ms, 0)} ms`],
  ]);
}

begin().catch(() => state("the console does not answer; load the page again", "bad"));
