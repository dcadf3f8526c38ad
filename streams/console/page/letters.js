// Dead letters, and putting them back: first what would happen, then the same order carried out.

import { at, element, scrolling, table, whole } from "/parts.js";

const EVERY = "";
let pipeline = "", reasons = [], drawn = "";

export function choose(name) {
  pipeline = name;
  drawn = "";
  if (at("redrive").open) at("redrive").close();
}

export function letters(found) {
  reasons = found.reasons;
  const text = JSON.stringify([found.reasons, found.letters.map((l) => [l.at, l.redriven])]);
  if (text === drawn) return;
  drawn = text;
  at("redrive-open").hidden = !found.count;
  if (!found.count) {
    at("letters").replaceChildren(element("p", "None seen.", "hint"));
    return;
  }
  at("letters").replaceChildren(
    scrolling(table("Dead letters by code", ["Code", "#Count", "Last"],
      found.reasons.map((r) => [r.code, whole(r.count), r.last]))),
    scrolling(table("Newest dead letters", ["Where", "Code", "Stage", "Put back"],
      found.letters.slice(-5).reverse().map((l) => [l.at, l.code, l.stage,
        l.redriven ? "yes" : ""]))),
    element("p", "Of the newest of each partition. With their content: headrace deadletter show.",
      "hint"),
  );
}

at("redrive-open").addEventListener("click", () => {
  const names = reasons.map((r) => r.code);
  at("redrive-code").replaceChildren(...[EVERY, ...names].map((name) => {
    const option = element("option", name || "every code");
    option.value = name;
    return option;
  }));
  forget();
  at("redrive").showModal();
});

// What was told is of the order it was asked for: another order is asked for anew.
function forget() {
  at("redrive-said").replaceChildren();
  at("redrive-do").disabled = true;
  at("redrive-do").textContent = "Put back";
}

at("redrive-code").addEventListener("change", forget);
at("redrive-limit").addEventListener("input", forget);
at("redrive-ask").addEventListener("click", () => order(true));
at("redrive-do").addEventListener("click", () => order(false));

async function order(dry) {
  if (!at("redrive-limit").reportValidity()) return;
  const [limit, reason] = [at("redrive-limit").valueAsNumber, at("redrive-code").value];
  busy(true);
  say(["reading the dead letters"]);
  try {
    const answer = await fetch(`/redrive/${encodeURIComponent(pipeline)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ limit, reason: reason === EVERY ? null : reason, dry }),
    });
    if (!answer.ok) say([await answer.text()], "bad");
    else told(await answer.json(), dry);
  } catch {
    say(["the console did not answer; what was put back is marked, so ask again"], "bad");
  } finally {
    busy(false);
  }
}

function told(found, dry) {
  say(found.lines);
  const can = dry && found.redriven > 0;
  at("redrive-do").disabled = !can;
  at("redrive-do").textContent = can ? `Put back ${whole(found.redriven)}` : "Put back";
}

function busy(yes) {
  for (const name of ["redrive-ask", "redrive-code", "redrive-limit"]) at(name).disabled = yes;
  if (yes) at("redrive-do").disabled = true;
}

function say(lines, kind = "") {
  at("redrive-said").replaceChildren(...lines.map((line) => element("p", line, kind)));
}
