// What one model says of a text, and why: bars, shaded tokens, gates and attention.

import { heatmap } from "./heatmap.js";

// Of longer texts the tokens would be too narrow to be read under a map.
const MOST_NAMED = 48;
const GATES = ["forget gate", "input gate", "output gate", "cell state"];

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// One by one: spread out as arguments, those of a long text would be too many.
const largest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 1e-9);
const percent = (share) => (share === null ? "no number" : `${(100 * share).toFixed(1)} %`);

function bars(shares) {
  const list = make("dl", { className: "bars" });
  for (const [name, share] of shares) {
    const inner = make("div");
    inner.style.width = `${100 * (share ?? 0)}%`;
    const bar = make("div", { className: "bar", ariaHidden: "true" }, inner);
    list.append(
      make("dt", { textContent: name }),
      make("dd", {}, bar, make("span", { className: "share", textContent: percent(share) })),
    );
  }
  return list;
}

const shade = (side, strength) =>
  `color-mix(in srgb, var(--${side}) ${(60 * strength).toFixed(1)}%, transparent)`;

function shadedTokens(why) {
  const most = largest(why.attribution.map(Math.abs));
  const list = make("ol", { className: "tokens" });
  list.setAttribute("aria-label", `Tokens, shaded by what speaks for ${why.label}`);
  why.tokens.forEach((token, place) => {
    const share = why.attribution[place];
    const side = share >= 0 ? "for" : "against";
    const item = make("li", { textContent: token, title: `${share >= 0 ? "+" : ""}${share.toFixed(3)} ${side} ${why.label}` });
    item.style.background = shade(side, Math.abs(share) / most);
    list.append(item, " ");
  });
  const swatch = (side) => {
    const box = make("span", { className: "swatch", ariaHidden: "true" });
    box.style.background = shade(side, 1);
    return box;
  };
  return [
    make("h3", { textContent: "Why" }),
    list,
    make(
      "p",
      { className: "legend" },
      make("span", {}, swatch("for"), `speaks for ${why.label}`),
      make("span", {}, swatch("against"), "speaks against it"),
      make("span", {
        textContent: `the shares miss their sum by ${Math.abs(why.completeness_error ?? 0).toFixed(3)}`,
      }),
    ),
  ];
}

function tokenTable(why) {
  const rows = why.tokens.map((token, place) =>
    make("tr", {}, make("th", { scope: "row", textContent: token }), make("td", { textContent: why.attribution[place].toFixed(4) })));
  const head = make("tr", {}, make("th", { scope: "col", textContent: "token" }), make("th", { scope: "col", textContent: `share in ${why.label}` }));
  return make("details", {}, make("summary", { textContent: "The shares as a table" }), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

// What a key of an explanation is of, and its parts in reading order: forward comes first.
function parts(why, kind) {
  return Object.entries(why)
    .filter(([key]) => key.startsWith(kind))
    .map(([key, values]) => [key.slice(kind.length).replaceAll("_", " "), values])
    .sort(([a], [b]) => (a.replace("backward", "z") < b.replace("backward", "z") ? -1 : 1));
}

function gates(why) {
  const figures = parts(why, "gates_").map(([name, steps]) => {
    const shown = steps.slice(0, why.tokens.length);
    const most = largest(shown.map((step) => step[3]));
    const rows = GATES.map((_, gate) => shown.map((step) => step[gate] / (gate === 3 ? most : 1)));
    const reading = make("p", { className: "reading" });
    const tell = (gate, step) => `${why.tokens[step]}: ${GATES[gate]} ${(shown[step][gate] ?? 0).toFixed(3)}`;
    const canvas = heatmap(rows, `Gates of ${name}`, tell, reading);
    Object.assign(canvas.style, { aspectRatio: "auto", height: "6rem" });
    const names = make("div", { className: "names", ariaHidden: "true" }, ...GATES.map((textContent) => make("span", { textContent })));
    const below = make("div", { className: "below", ariaHidden: "true" });
    if (shown.length <= MOST_NAMED) below.append(...why.tokens.map((textContent) => make("span", { textContent })));
    const grid = make("div", { className: "gates" }, names, canvas, below);
    return make("figure", {}, grid, make("figcaption", { textContent: `${name}: 0 is faint, 1 is strong; the cell's norm is up to ${most.toFixed(1)}` }), reading);
  });
  return figures.length ? [make("h3", { textContent: "Gates over time" }), ...figures] : [];
}

function attention(why) {
  const layers = parts(why, "attention_").map(([name, heads], place) => {
    const reading = make("p", { className: "reading" });
    const count = why.tokens.length;
    const figures = heads.map((head, number) => {
      const rows = head.slice(0, count).map((row) => row.slice(0, count));
      const most = largest(rows.flat());
      // Attention pooling has one row, for the whole text.
      const taker = (row) => (rows.length === 1 ? "the text" : why.tokens[row]);
      const tell = (row, column) =>
        `head ${number + 1}: ${taker(row)} takes ${percent(rows[row][column])} from ${why.tokens[column]}`;
      const scaled = rows.map((row) => row.map((share) => share / most));
      const canvas = heatmap(scaled, `Attention of ${name}, head ${number + 1}`, tell, reading);
      if (rows.length === 1) Object.assign(canvas.style, { aspectRatio: "auto", height: "2rem" });
      return make("figure", {}, canvas, make("figcaption", { textContent: `head ${number + 1}, up to ${percent(most)}` }));
    });
    // Six blocks of twelve heads would push all else off the page.
    const summary = make("summary", { textContent: `${name}, ${heads.length} ${heads.length === 1 ? "head" : "heads"}` });
    return make("details", { open: place === 0 }, summary, make("div", { className: "heads" }, ...figures), reading);
  });
  const words = "Each row is a token, each column one that it takes from.";
  return layers.length ? [make("h3", { textContent: "Attention" }), make("p", { className: "note", textContent: words }), ...layers] : [];
}

// The tokens, and what belongs to them, of a text that may be shorter than what is given.
function trimmed(why) {
  const end = why.tokens.indexOf("");
  const count = end < 0 ? why.tokens.length : end;
  // What is no number came as null.
  const attribution = why.attribution.slice(0, count).map((share) => share ?? 0);
  return { ...why, tokens: why.tokens.slice(0, count), attribution };
}

export function answerPanel({ name, version }, shares, explained, instead) {
  const [label, share] = shares[0];
  const panel = make(
    "section",
    { className: "answer" },
    make("h2", { textContent: `${name}, version ${version}` }),
    make("p", { className: "label", textContent: `${label}, ${percent(share)}` }),
    bars(shares),
  );
  if (explained) {
    const why = trimmed(explained);
    panel.append(...shadedTokens(why), tokenTable(why), ...gates(why), ...attention(why));
  } else {
    panel.append(make("p", { className: "note", textContent: instead }));
  }
  return panel;
}
