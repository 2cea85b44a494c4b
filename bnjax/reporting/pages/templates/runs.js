const data = JSON.parse(document.getElementById("data").textContent);
const ticked = [];

function make(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const isNumber = value => typeof value === "number";
const isNothing = value => value === undefined || value === null || value === "";

function textFor(value) {
  if (isNothing(value)) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return isNumber(value) ? String(Number(value.toPrecision(4))) : value;
}

function table(columns, rows) {
  const header = columns.map(name =>
    make("th", { scope: "col", ariaSort: "none" }, make("button", { type: "button" }, name.replaceAll("_", " "))));
  return make("div", { className: "scroll", tabIndex: 0 }, make("table", {},
    make("thead", {}, make("tr", {}, ...header)),
    make("tbody", {}, ...rows.map(cells => make("tr", {}, ...cells)))));
}

const single = (value, className = "") =>
  make("td", { className: isNumber(value) ? `${className} unbroken` : className }, textFor(value));

// What is zero to rounding, as in the figures.
const isZero = value => isNumber(value) && Math.abs(value) <= 1e-12;
const areSame = (left, right) =>
  left === right || (isNothing(left) && isNothing(right)) || (isZero(left) && isZero(right));

// One value where both agree, else left, right and their difference, each under its name.
function both(left, right, column) {
  if (areSame(left, right)) return single(left, `same ${column}`);
  const parts = [["left", textFor(left)], ["right", textFor(right)]];
  const numbers = isNumber(left) && isNumber(right);
  if (numbers) parts.push(["change", (right > left ? "+" : "") + textFor(right - left)]);
  return make("td", { className: `differs ${numbers ? "unbroken" : ""} ${column}`, title: numbers ? right - left : "" },
    ...parts.map(([name, text]) => make("div", {}, make("small", {}, name), ` ${text}`)));
}

function settings(left, right) {
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  names.sort((a, b) => (left[a] === right[a]) - (left[b] === right[b]));
  return table(["setting", "left", "right"], names.map(name => {
    const className = left[name] === right[name] ? "same" : "differs";
    return [single(name.replaceAll("_", " ")), single(left[name], className), single(right[name], className)];
  }));
}

const records = ({ columns, rows }) => rows.map(row => Object.fromEntries(row.map((cell, k) => [columns[k], cell])));
const keyOf = (row, keys) => JSON.stringify(keys.map(name => row[name]));

// The shortest run of first columns that tells all rows of either table apart; all columns if none does.
function keysOf(columns, tables) {
  const lengths = columns.map((_, k) => k + 1);
  const apart = keys => tables.every(rows => new Set(rows.map(row => keyOf(row, keys))).size === rows.length);
  return columns.slice(0, lengths.find(length => apart(columns.slice(0, length))));
}

// Rows by their keys; those with the same key are told apart by their order.
function byKey(rows, keys) {
  const seen = new Map();
  return new Map(rows.map(row => {
    const key = keyOf(row, keys);
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return [`${key} ${seen.get(key)}`, row];
  }));
}

function rowByRow(left, right) {
  const shared = left.columns.filter(name => right.columns.includes(name));
  const tables = [records(left), records(right)];
  const keys = keysOf(shared, tables);
  const values = [...new Set([...left.columns, ...right.columns])].filter(name => !keys.includes(name));
  const [first, second] = tables.map(rows => byKey(rows, keys));
  return table([...keys, ...values], [...new Map([...first, ...second])].map(([key, row]) => [
    ...keys.map(name => single(row[name])),
    ...values.map(name => both(first.get(key)?.[name], second.get(key)?.[name], name)),
  ]));
}

function pair(name, runs) {
  const images = runs.map(run => run.figures.includes(name)
    ? make("div", { className: "card" }, make("img", { src: `${run.folder}${name}.svg`, alt: `${name}, ${run.name}` }))
    : make("p", { className: "empty" }, "not drawn"));
  return make("figure", {}, make("h4", {}, name.replaceAll("_", " ")), make("div", { className: "pair" }, ...images));
}

function compareRuns(left, right) {
  if (left.experiment !== right.experiment) {
    const both = `${left.experiment} and ${right.experiment} are different experiments`;
    return [make("h2", {}, "Side by side"), make("p", {}, `${both}, with tables that have nothing in common. Tick two runs of one.`)];
  }
  const parts = [
    make("h2", {}, "Side by side"),
    make("p", {}, `Left: ${left.name}. Right: ${right.name}. Where a cell differs, it names both; the change is right − left. Numbers up to 1e-12 are zero to rounding and do not differ.`),
    make("h3", {}, "Configuration and provenance"), settings(left.settings, right.settings),
  ];
  for (const name of Object.keys(left.tables).filter(name => name in right.tables)) {
    parts.push(make("h3", {}, name === "table" ? "Table" : `Table of ${name.replaceAll("_", " ")}`), rowByRow(left.tables[name], right.tables[name]));
  }
  const figures = [...new Set([...left.figures, ...right.figures])];
  if (figures.length) parts.push(make("h3", {}, "Figures"), ...figures.map(name => pair(name, [left, right])));
  return parts;
}

document.addEventListener("change", ({ target }) => {
  if (!target.matches(".choice")) return;
  const at = ticked.indexOf(target);
  if (target.checked) ticked.push(target); else ticked.splice(at, 1);
  if (ticked.length > 2) ticked.shift().checked = false;
  const section = document.getElementById("beside");
  section.hidden = ticked.length < 2;
  const earlierFirst = ticked.map(box => data[box.value]).sort((a, b) => a.started.localeCompare(b.started));
  section.replaceChildren(...(section.hidden ? [] : compareRuns(...earlierFirst)));
});
