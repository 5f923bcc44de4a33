"use strict";
const $ = (s, root = document) => root.querySelector(s);
const $$ = (s, root = document) => [...root.querySelectorAll(s)];
const make = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
const parsed = node => JSON.parse(node.textContent);

// ------------------------------------------------------------------ light and dark
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--soft").trim();
const drawn = new Set();
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
$("#theme").onclick = () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  drawn.forEach(plot => {
    Plotly.relayout(plot, { "font.color": ink() });
    inCells(plot.data).forEach(i => Plotly.restyle(plot, { "textfont.color": cellInk() }, [i]));
  });
};
// plotly chooses the ink of text on a see-through colour as if the page were white
const cellInk = () => isDark() ? "#f0f3f6" : null;
const inCells = data => data.flatMap((t, i) => t.type === "heatmap" || (t.type === "bar" && t.textposition === "inside") ? [i] : []);

// ------------------------------------------------------------------ figures, drawn when they come near
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"] };
const figureOf = new Map();
const layoutFor = (figure, width) => {
  const own = width < figure.least ? { template: figure.layout.template, ...figure.narrow } : figure.layout;
  return { ...structuredClone(own), font: { ...own.font, color: ink() } };
};
// plotly prints cells as large as if they were wide enough for all that is said in them
const LETTER = 0.62, LARGEST = 13, LEAST = 7;
function fitCells(plot) {
  figureOf.get(plot).data.forEach((trace, i) => {
    if (trace.type !== "heatmap" || !trace.text) return;
    const axis = plot._fullLayout[(trace.xaxis || "x").replace("x", "xaxis")];
    const letters = Math.max(1, ...trace.text.flat().map(t => t.length));
    const size = Math.min(LARGEST, Math.floor((axis._length / trace.text[0].length - 4) / (LETTER * letters)));
    Plotly.restyle(plot, size < LEAST ? { texttemplate: "" } : { texttemplate: trace.texttemplate, "textfont.size": size }, [i]);
  });
}
function draw(plot) {
  if (drawn.has(plot) || !plot.offsetParent) return;
  drawn.add(plot);
  const figure = parsed($("#data-" + plot.id.slice(7)));
  figure.wide = plot.clientWidth >= figure.least;
  figureOf.set(plot, figure);
  const layout = layoutFor(figure, plot.clientWidth);
  plot.style.height = layout.height + "px";
  if (isDark()) inCells(figure.data).forEach(i => { figure.data[i].textfont = { ...figure.data[i].textfont, color: cellInk() }; });
  Plotly.newPlot(plot, figure.data, layout, settings).then(() => fitCells(plot));
  if ("cards" in plot.dataset) {
    plot.on("plotly_click", e => {
      const place = e.points[0].customdata;
      if (typeof place === "string") openNote(place);
      else if (place) openCard(place[0], place[1]);
    });
  }
}
addEventListener("resize", () => drawn.forEach(plot => {
  const figure = figureOf.get(plot), width = plot.clientWidth;
  if (!width || figure.wide === width >= figure.least) return;
  figure.wide = !figure.wide;
  const layout = layoutFor(figure, width);
  plot.style.height = layout.height + "px";
  Plotly.react(plot, figure.data, layout, settings).then(() => fitCells(plot));
}));
const watcher = new IntersectionObserver(
  entries => entries.forEach(e => e.isIntersecting && draw(e.target)), { rootMargin: "900px" });
const drawAll = () => $$(".plot[id]").forEach(draw);
$$(".plot[id]").forEach(plot => watcher.observe(plot));

// ------------------------------------------------------------------ switches between figures of a group
const groups = new Map();
$$("figure[data-group]").forEach(f => groups.set(f.dataset.group, [...(groups.get(f.dataset.group) || []), f]));
const MOST_AT_ONCE = 3;
const switches = [];
for (const figures of groups.values()) {
  if (figures.length < 2) continue;
  const bar = make("div", { className: "switch", role: "group" });
  let chosen = figures.length > MOST_AT_ONCE ? figures[0].dataset.title : "all";
  const show = name => {
    figures.forEach(f => { f.hidden = name !== "all" && f.dataset.title !== name; });
    $$("button", bar).forEach(b => b.setAttribute("aria-pressed", b.textContent === name));
    figures.map(f => $(".plot", f)).filter(p => drawn.has(p) && p.offsetParent).forEach(p => Plotly.Plots.resize(p));
  };
  ["all", ...figures.map(f => f.dataset.title)].forEach(name =>
    bar.append(make("button", { type: "button", textContent: name, onclick: () => show(chosen = name) })));
  figures[0].before(bar);
  show(chosen);
  switches.push({ all: () => show("all"), back: () => show(chosen) });
}

// ------------------------------------------------------------------ tables: sort, filter, page, download
const PAGE = 20;
const known = new Map(parsed($("#cards")).map(c => [c.layer + "/" + c.feature, c]));
const fixed = (x, c, most = c.digits) => {
  if (x === null) return "-";
  if (Math.abs(x) >= 1e7) return (c.sign && x > 0 ? "+" : "") + x.toExponential(1);
  const digits = Math.min(most, Math.abs(x) >= 100 ? 0 : Math.abs(x) >= 10 ? 1 : most); // three that say something
  const text = Math.abs(x).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (!/[1-9]/.test(text) ? "" : x < 0 ? "-" : c.sign ? "+" : "") + text; // what is nothing has no sign
};
const small = (x, c) => !c.sign && c.digits > 0 && x > 0 && x < 0.5 * 10 ** -c.digits; // a p-value, say, is never nothing
const key = (v, c) => c.kind === "interval" ? (v === null ? null : v[0]) : c.kind === "feature" ? v[0] * 1e7 + v[1] : v;
const plain = (v, c) => v === null ? "" : c.kind === "interval" || c.kind === "feature" ? v.slice(0, 3).join(" ") : String(v);
function cell(v, c) {
  const td = make("td");
  if (c.kind === "number" || c.kind === "share") td.className = "figure";
  if (v === null) td.textContent = "-";
  else if (c.kind === "interval") td.append(fixed(v[0], c, v[3]) + " ", make("small", { textContent: v[1] === null ? "" : `[${fixed(v[1], c, v[3])}, ${fixed(v[2], c, v[3])}]` }));
  else if (c.kind === "share") td.textContent = fixed(100 * v, c) + " %";
  else if (c.kind === "number") td.textContent = (small(v, c) ? "< " : "") + fixed(small(v, c) ? 10 ** -c.digits : v, c);
  else if (c.kind === "feature") td.append(known.has(v.join("/"))
    ? make("button", { type: "button", textContent: v.join(", "), onclick: () => openCard(...v) }) : v.join(", "));
  else { td.textContent = v; if (String(v).length > 60) td.className = "long"; }
  return td;
}
function table(box) {
  const { name, columns, rows, strong } = parsed($("script", box));
  const bold = new Set(strong.map(i => rows[i]));
  let [shown, page, by, down, all] = [rows, 0, null, false, false];
  const body = make("tbody"), count = make("span");
  const filter = make("input", { type: "search", placeholder: "filter: words, or n > 20", ariaLabel: "filter" });
  const back = make("button", { type: "button", textContent: "‹", title: "previous page", onclick: () => { page--; show(); } });
  const on = make("button", { type: "button", textContent: "›", title: "next page", onclick: () => { page++; show(); } });
  const save = make("button", { type: "button", textContent: "CSV", title: "download what the filter leaves", onclick: download });
  const head = make("tr", {}, ...columns.map((c, i) => make("th", { textContent: c.title, scope: "col", tabIndex: 0, className: c.kind === "number" || c.kind === "share" ? "figure" : "",
    onclick: () => sort(i), onkeydown: e => e.key === "Enter" && sort(i) })));
  function sort(i) {
    down = by === i ? !down : columns[i].kind !== "text";
    by = i; page = 0;
    $$("th", head).forEach((th, k) => k === i ? th.setAttribute("aria-sort", down ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
    show();
  }
  function ordered() {
    if (by === null) return shown;
    const c = columns[by], value = r => key(r[by], c);
    return [...shown].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * (down ? -1 : 1);
    });
  }
  function keeps(row, word) {
    const m = word.match(/^(.+?)\s*([<>=])\s*(-?[\d.]+)$/);
    if (!m) return row.some((v, i) => plain(v, columns[i]).toLowerCase().includes(word));
    const i = columns.findIndex(c => c.title.toLowerCase().startsWith(m[1].trim()));
    if (i < 0) return true;
    const [x, y] = [key(row[i], columns[i]), Number(m[3])];
    return x !== null && (m[2] === "<" ? x < y : m[2] === ">" ? x > y : x === y);
  }
  filter.oninput = () => {
    const words = filter.value.toLowerCase().match(/[^\s<>=]+\s*[<>=]\s*-?[\d.]+|\S+/g) || [];
    shown = rows.filter(r => words.every(w => keeps(r, w)));
    page = 0;
    show();
  };
  function show() {
    const found = ordered(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const part = all ? found : found.slice(page * PAGE, (page + 1) * PAGE);
    body.replaceChildren(...part.map(r => make("tr", { className: bold.has(r) ? "strong" : "" }, ...r.map((v, i) => cell(v, columns[i])))));
    count.textContent = `${found.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows` + (pages > 1 ? `, page ${page + 1} of ${pages}` : "");
    back.hidden = on.hidden = pages < 2;
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
    back.parentElement?.nextElementSibling?.firstChild?.onscroll?.();
  }
  function download() {
    const quote = v => /[",\n]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v;
    const wide = (v, c) => c.kind === "interval" ? (v ? v.slice(0, 3).map(x => x ?? "") : ["", "", ""]) : c.kind === "feature" ? v : [v === null ? "" : v];
    const names = c => c.kind === "interval" ? [c.title, c.title + " low", c.title + " high"] : c.kind === "feature" ? ["layer", "feature"] : [c.title];
    const lines = [columns.flatMap(names), ...ordered().map(r => r.flatMap((v, i) => wide(v, columns[i])))];
    const text = lines.map(l => l.map(v => quote(String(v))).join(",")).join("\n") + "\n";
    const link = make("a", { download: name + ".csv", href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  box.whole = on => { all = on; show(); };
  const tools = make("div", { className: "tools" }, filter, save, back, on, count);
  if (rows.length < 6) filter.hidden = true;
  const scroll = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, head), body));
  const frame = make("div", { className: "frame" }, scroll);
  const edges = () => {
    frame.classList.toggle("off", scroll.scrollLeft > 1);
    frame.classList.toggle("on", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 1);
  };
  scroll.onscroll = edges;
  new ResizeObserver(edges).observe(scroll);
  $("script", box).replaceWith(tools, frame);
  show();
}
$$(".table").forEach(table);

// ------------------------------------------------------------------ feature cards
const dialog = $("#card");
$(".close", dialog).onclick = () => dialog.close();
dialog.onclick = e => e.target === dialog && dialog.close();
const words = (title, pairs) => make("div", {}, make("h3", { textContent: title }), make("table", {}, make("tbody", {},
  ...pairs.map(([w, v]) => make("tr", {}, make("td", { className: "word", textContent: w.trim() ? w : JSON.stringify(w) }), make("td", { textContent: v.toPrecision(3) }))))));
const SHOWN = 80;
function tokens(text) {
  const most = Math.max(...text.activations, 1e-9), box = make("div", { className: "tokens" });
  const from = Math.max(0, text.tokens.length - SHOWN);
  const fill = start => box.replaceChildren(
    ...(start ? [make("button", { type: "button", textContent: `… ${start} more tokens`, onclick: () => fill(0) }), " "] : []),
    ...text.tokens.slice(start).map((t, i) => {
      const a = text.activations[start + i], span = make("span", { textContent: t, title: `activation ${a}` });
      if (a > 0) span.style.background = `rgba(var(--heat), ${(0.12 + 0.6 * a / most).toFixed(2)})`;
      return span;
    }));
  fill(from);
  return box;
}
function openNote(text) {
  const [title, ...lines] = text.split("\n");
  $("div", dialog).replaceChildren(make("h2", { textContent: title }), ...lines.map(line => make("p", { className: "said", textContent: line })));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
function openCard(layer, feature) {
  const card = known.get(layer + "/" + feature);
  if (!card) return;
  const plot = make("div", { className: "plot" });
  const effects = card.effects.map(([emotion, split, effect, low, high, n, flips, causal]) => make("tr", {},
    make("td", { textContent: `${emotion}, ${split}` }), make("td", {}, effect.toFixed(3) + " ", make("small", { textContent: `[${low.toFixed(3)}, ${high.toFixed(3)}]` })),
    make("td", { textContent: `n = ${n}` }), make("td", { textContent: `flips ${(100 * flips).toFixed(0)} %` }), make("td", { textContent: causal ? "causal" : "" })));
  const near = card.neighbours.map(x => make("tr", {}, make("td", {}, known.has(x.layer + "/" + x.feature)
    ? make("button", { type: "button", textContent: `${x.layer}, ${x.feature}`, onclick: () => openCard(x.layer, x.feature) }) : `${x.layer}, ${x.feature}`),
    make("td", { textContent: x.cosine.toFixed(2) })));
  const table = rows => make("div", { className: "scroll" }, make("table", {}, make("tbody", {}, ...rows)));
  const texts = card.texts.flatMap(t => [make("div", { className: "note", textContent: `${t.id}: gold ${t.gold}, answered ${t.predicted}` }), tokens(t)]);
  $("div", dialog).replaceChildren(
    make("h2", { textContent: `Layer ${layer}, feature ${feature}` }),
    ...(card.neuronpedia ? [make("a", { href: card.neuronpedia, textContent: "on Neuronpedia", target: "_blank", rel: "noopener" })] : []),
    make("h3", { textContent: "Exact effect of removing it (nats)" }), table(effects),
    make("h3", { textContent: "Activation above zero at the answer position, discover texts" }), plot,
    make("div", { className: "note", textContent: card.emotions.map(e => `${e.emotion} ${e.active} of ${e.n}`).join(", ") + " texts on which it fires." }),
    make("div", { className: "columns" }, words("Pushes up", card.promotes), words("Pushes down", card.suppresses),
      words("Answers (less their mean)", card.answers), make("div", {}, make("h3", { textContent: "Nearest directions (cosine)" }), make("table", {}, make("tbody", {}, ...near)))),
    make("div", { className: "note", textContent: "Words: what a unit of activation adds to each token's logit on the direct path, the final norm linearised at the mean residual. Per-token activations: all positions but the first." }),
    ...(texts.length ? [make("h3", { textContent: "Texts on which it is most active at the answer position" }), ...texts] : []));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const middle = card.edges.slice(1).map((e, i) => (e + card.edges[i]) / 2);
  Plotly.newPlot(plot, card.emotions.filter(e => e.active).map(e => ({ type: "bar", x: middle, y: e.counts, name: e.emotion, marker: { color: COLOURS[e.emotion] } })), {
    barmode: "stack", height: 240, margin: { l: 44, r: 8, t: 8, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink() },
    xaxis: { title: { text: "activation" }, gridcolor: "rgba(125,133,144,.22)" }, yaxis: { title: { text: "texts" }, gridcolor: "rgba(125,133,144,.22)" } }, { ...settings, displayModeBar: false });
}

// ------------------------------------------------------------------ print: everything drawn, every row up to a limit
addEventListener("beforeprint", () => { $$("details").forEach(d => { d.open = true; }); switches.forEach(s => s.all()); drawAll(); $$(".table").forEach(t => $$("tbody tr", t).length >= PAGE && t.id !== "table-effects" && t.whole(true)); });
addEventListener("afterprint", () => { switches.forEach(s => s.back()); $$(".table").forEach(t => t.whole(false)); });
