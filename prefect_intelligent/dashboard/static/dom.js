// Elements, formats and tables. The scripts of this folder are joined in the order dom, pictures, panels, app and share
// one module scope. Whatever comes from outside is put in as text, never as HTML.
const $ = (id) => document.getElementById(id);
const body = (id) => $(id).querySelector(".body");
const SVG = new Set(["svg", "g", "line", "circle", "text", "path", "rect", "polyline", "title"]);

function el(tag, attributes = {}, ...children) {
  const inPicture = tag.startsWith("svg:"), space = inPicture || SVG.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(space, inPicture ? tag.slice(4) : tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  const given = children.flat(2).filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...given.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

const FORMATS = [0, 1, 2].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits }));
const CENTS = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const known = (value) => value !== null && value !== undefined;
const number = (value, digits = 0) => (known(value) ? FORMATS[digits].format(value) : "–");
const percent = (value) => (known(value) ? FORMATS[1].format(100 * value) + " %" : "–");
const usd = (value) => (known(value) ? "$" + (Math.abs(value) < 100 ? CENTS : FORMATS[0]).format(value) : "–");
const limit = (value) => (known(value) ? number(value) : "none");
function span(seconds) {
  if (!known(seconds)) return "–";
  const sign = seconds < 0 ? "−" : "", s = Math.abs(seconds);
  if (s < 60) return sign + s.toFixed(0) + " s";
  if (s < 5400) return sign + (s / 60).toFixed(0) + " min";
  return s < 172800 ? sign + (s / 3600).toFixed(1) + " h" : sign + (s / 86400).toFixed(1) + " d";
}
// Today's instants by their time alone: what is far away has a date.
function clock(at) {
  if (!at) return "–";
  const date = new Date(at * 1000), far = Math.abs(at - (state.at_s || at)) > 64800;
  return (far ? DAY.format(date) + ", " : "") + TIME.format(date);
}

const MARKS = { healthy: "●", passed: "●", applied: "●", warning: "▲", warned: "▲", ticket: "▲", degraded: "■", page: "■", failed: "■", blocked: "■", late: "■" };
const tag = (text) => {
  const kind = String(text).replace(/[^a-z]/g, "");
  return el("span", { class: "tag " + kind }, MARKS[kind] ? el("span", { "aria-hidden": "true" }, MARKS[kind] + " ") : null, text);
};
// Names lead to their pages here, or in Prefect where this page has no server behind it.
const linked = (text, href) => (href ? el("a", { href }, text) : text);
const inPrefect = (...parts) => (state.links && state.links.ui && parts.every(known) ? [state.links.ui, parts[0], ...parts.slice(1).map(encodeURIComponent)].join("/") : null);
const runPage = (id) => inPrefect("runs/flow-run", id);
const deploymentPage = (name) => (session.details ? "/deployment?name=" + encodeURIComponent(name) : inPrefect("deployments/deployment", ((state.links || {}).deployments || {})[name]));
const ofDeployment = (name) => linked(name, deploymentPage(name));
const ofDataset = (name) => linked(name, session.details ? "/dataset?name=" + encodeURIComponent(name) : null);
const ofQueue = (name) => linked(name, state.pool ? inPrefect("work-pools/work-pool", state.pool.name, "queue", name) : null);
const empty = (text) => el("p", { class: "quiet" }, text);
// What is cut off at a side says so: the class shows a shadow and a word.
const cut = new ResizeObserver((entries) => entries.forEach(({ target }) => markCut(target.classList.contains("scroll") ? target : target.parentElement)));
function markCut(box) {
  box.classList.toggle("cut-x", box.scrollWidth - box.clientWidth > 1);
  box.classList.toggle("cut-y", box.scrollHeight - box.clientHeight > 1);
}
function scroller(label, ...children) {
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);
  cut.observe(box);
  for (const child of box.children) cut.observe(child);
  return box;
}

// Columns are [heading, cell of a row, whether it is a number].
function table(caption, columns, rows) {
  const head = el("tr", {}, columns.map(([title, , numeric]) => el("th", { scope: "col", class: numeric ? "n" : null }, title)));
  const lines = rows.map((row) => el("tr", {}, columns.map(([, value, numeric]) => el("td", { class: numeric ? "n" : null }, value(row)))));
  return scroller(caption, el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, lines)));
}
