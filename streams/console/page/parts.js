// Pieces of page. What comes from outside is set as text, never as markup.

export const at = (id) => document.getElementById(id);

export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export const whole = (value) => Math.round(value).toLocaleString("en");

export function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

export function precise(value) {
  return value === null || value === undefined ? "missing" : String(Number(value.toPrecision(4)));
}

export function size(bytes) {
  for (const unit of ["B", "kB", "MB"]) {
    if (bytes < 1000) return `${unit === "B" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} GB`;
}

export function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([what, value]) => [
    element("dt", what), value instanceof Node ? value : element("dd", value),
  ]));
}

// A table of text; a column name that begins with # holds numbers.
export function table(caption, columns, rows) {
  const made = document.createElement("table");
  const numeric = columns.map((name) => name.startsWith("#"));
  const head = made.createTHead().insertRow();
  columns.forEach((name, i) => {
    const cell = element("th", name.replace("#", ""), numeric[i] ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  });
  made.setAttribute("aria-label", caption);
  const body = made.createTBody();
  for (const row of rows) fill(body.insertRow(), row, numeric);
  return made;
}

// Around a table that may be wider than the screen: who has no mouse moves it by the keys.
export function scrolling(made) {
  const around = element("div", null, "scroll");
  around.tabIndex = 0;
  around.setAttribute("role", "region");
  around.setAttribute("aria-label", made.getAttribute("aria-label"));
  around.append(made);
  return around;
}

// The same, drawn anew in its place: who is there with the keys stays there.
export function scrollingIn(into, made) {
  const around = into.querySelector(":scope > .scroll");
  if (around) around.replaceChildren(made);
  else into.replaceChildren(scrolling(made));
}

export function fill(row, cells, numeric = []) {
  cells.forEach((value, i) => {
    if (value instanceof Node) row.insertCell().append(value);
    else row.append(element("td", value, numeric[i] ? "number" : ""));
  });
}
