// Keeps the state, merges what the stream brings, and listens to keys. A page with its state inside draws that alone.
let state = {}, session = { actions: false, csrf: null, live: false }, drawn = 0;

let ranged = null; // the sections of another span than the page's own, while one is chosen
async function look(span) {
  const answer = await fetch("/api/look-back?span=" + span);
  if (!answer.ok || session.span !== span) return;
  ranged = await answer.json();
  Object.assign(state, ranged);
  show(Object.keys(ranged));
}
function choose(span) {
  session.span = span;
  look(span);
}
setInterval(() => session.span && look(session.span), 60000);

function show(names) {
  for (const name of names) if (draw[name] && state[name] !== undefined) draw[name](state[name]);
  document.documentElement.dataset.drawn = String(++drawn);
}
function merge(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (name === "gantt") {
      Object.assign(state.gantt ||= {}, value.set);
      for (const key of value.gone) if (!(key in value.set)) delete state.gantt[key];
    } else if (!(ranged && name in ranged)) state[name] = value;
  }
  show(Object.keys(changes));
}
async function act(name, text = "") {
  const answer = await fetch("/api/actions/" + name, { method: "POST", headers: { "X-CSRF-Token": session.csrf }, body: text });
  $("status").textContent = answer.ok ? "Done: " + name : "Refused: " + (await answer.json()).error;
}
function listen() {
  const source = new EventSource("/api/stream");
  source.addEventListener("state", (event) => { state = { ...JSON.parse(event.data), ...ranged }; show(Object.keys(state)); });
  source.addEventListener("patch", (event) => merge(JSON.parse(event.data)));
  source.addEventListener("reload", () => { source.close(); listen(); });
  source.addEventListener("error", () => { const status = $("status"); status.className = "error"; status.textContent = "The connection is lost; trying again"; });
}

$("nav").replaceChildren(...[...document.querySelectorAll("main section")].map((section, at) => el("li", {}, el("a", { href: "#" + section.id, "aria-keyshortcuts": at < 9 ? at + 1 : null }, section.dataset.nav))));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !typing && $("filter")) { event.preventDefault(); $("filter").focus(); }
  else if (event.key === "Escape" && typing) { event.target.value = ""; filter = ""; draw.health(state.health); event.target.blur(); }
  else if (!typing && /^[1-9]$/.test(event.key)) document.querySelectorAll("#nav a")[Number(event.key) - 1]?.click();
});
const repaint = () => state.gantt && gantt(state.gantt);
addEventListener("resize", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

function ready() {
  if (session.spans && session.spans.length) $("range").replaceChildren(el("label", {}, "Last ", el("select", { id: "span", on: { change: (e) => choose(e.target.value) } }, session.spans.map((name) => el("option", { selected: name === "7d" }, name)))));
  if (session.details) $("others").replaceChildren(el("a", { href: "/pools" }, "All pools"));
}
const inside = $("state");
if (inside) { state = JSON.parse(inside.textContent); show(Object.keys(state)); }
else fetch("/api/session").then((answer) => answer.json()).then((found) => { session = { ...found, live: true }; $("pool").textContent = found.pool; document.title = found.pool + " · prefect-intelligent"; ready(); listen(); });
