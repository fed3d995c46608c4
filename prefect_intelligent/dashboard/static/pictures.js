// Pictures: the Gantt chart on one canvas (ten thousand bars), everything else as SVG. Each says in words what it shows.

const PHASES = ["running", "starting", "waiting", "scheduled", "completed", "failed"];
const chart = { bars: [], chosen: -1, queue: "", pending: false };

function gantt(rows) {
  const box = body("gantt");
  if (!Object.keys(rows).length && !(state.past || []).length) { box.replaceChildren(empty("No run is active, waiting or scheduled.")); return; }
  if (!box.querySelector("canvas")) {
    const key = [["run", "running"], ["wait", "waiting, as expected"], ["next", "scheduled"], ["done", "ended"], ["fail", "failed"], ["late", "past its deadline"]];
    const choose = el("select", { id: "gantt-queue", on: { change: (e) => { chart.queue = e.target.value; chart.chosen = -1; gantt(state.gantt); } } });
    const canvas = el("canvas", { role: "img", tabindex: "0", on: {
      click: () => tellRun(),
      mousemove: (e) => point(barAt(e.offsetX, e.offsetY)), mouseleave: () => point(-1), blur: () => point(-1),
      keydown: (e) => {
        if (e.key === "Enter") return tellRun();
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
        if (!step) return;
        e.preventDefault();
        point(Math.min(chart.bars.length - 1, Math.max(0, chart.chosen + step)));
      } } });
    box.replaceChildren(el("p", { class: "legend" }, key.map(([c, t]) => el("span", {}, el("i", { class: "c-" + c }), t)),
      el("label", {}, "Queue ", choose)), canvas, el("p", { class: "quiet", id: "gantt-run", "aria-live": "polite" }, "Point at a bar, or use the arrow keys, to see its run; click, or press Enter, to see why it does not start."),
      el("ul", { class: "plain", id: "gantt-why", "aria-live": "polite" }));
  }
  const names = ["", ...((state.names || {}).queues || [])], choose = $("gantt-queue");
  if (choose.options.length !== names.length) {
    choose.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chart.queue }, name || "all")));
  }
  if (chart.pending) return;
  chart.pending = true;
  requestAnimationFrame(() => { chart.pending = false; paint(box.querySelector("canvas")); });
}

function followRun() {
  const bar = chart.bars[chart.chosen], page = bar && runPage(bar.id);
  if (page) location.assign(page);
}

// A run that has ended opens in Prefect; of one that has not, the page says why it does not start.
function tellRun() {
  const bar = chart.bars[chart.chosen];
  if (bar && (bar.row[2] > 3 || !session.live)) followRun(); else why();
}

function barAt(x, y) {
  for (let i = chart.bars.length - 1; i >= 0; i--) {
    const bar = chart.bars[i];
    if (x >= bar.left && x <= Math.max(bar.right, bar.left + 3) && y >= bar.top && y <= bar.top + Math.max(bar.tall, 4)) return i;
  }
  return -1;
}

function point(place) {
  if (place === chart.chosen) return;
  chart.chosen = place;
  const bar = chart.bars[place], names = state.names || {};
  paint(body("gantt").querySelector("canvas"));
  if (!bar) return;
  const [d, q, phase, start, end, due, fails] = bar.row;
  const name = (all, which) => (typeof which === "string" ? which : (all || [])[which]), page = runPage(bar.id);
  const words = phase > 3 ? [PHASES[phase] + " " + clock(end), "took " + span(end - start)] : [PHASES[phase] + " since " + clock(start), end === null ? "no end in sight" : "expected to end " + clock(end)];
  if (phase > 1 && phase < 4) words[0] = PHASES[phase] + " for " + clock(start);
  if (due !== null) words.push((end === null || end > due ? "past its deadline " : "due ") + clock(due));
  if (phase < 4 && session.live) words.push("click or Enter says why it does not start");
  else if (page) words.push("click or Enter opens it in Prefect");
  if (fails >= 5) words.push(fails + " % likely to fail");
  $("gantt-run").replaceChildren(el("strong", {}, name(names.deployments, d)), " in " + name(names.queues, q) + ": " + words.join(", "));
}

// What `prefect-intelligent why` says about the run of the bar.
async function why() {
  const bar = chart.bars[chart.chosen];
  if (!bar || !session.live) return;
  const answer = await fetch("/api/why/" + encodeURIComponent(bar.id)), found = await answer.json();
  const page = runPage(bar.id), lines = (found.lines || [found.error]).map((line) => el("li", {}, line));
  $("gantt-why").replaceChildren(...lines, ...(page ? [el("li", {}, linked("the run in Prefect", page))] : []));
}

function paint(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) { canvas.width = width * ratio; canvas.height = height * ratio; }
  const g = canvas.getContext("2d"), now = state.at_s, foot = 20, room = height - foot;
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  const wanted = ((state.names || {}).queues || []).indexOf(chart.queue);
  const ended = (state.past || []).filter((row) => wanted < 0 || row[1] === chart.queue).map(([d, q, failed, start, end, due, id]) => [d, q, failed ? 5 : 4, start, end, due, 0, id]);
  const live = Object.entries(state.gantt || {}).filter(([, row]) => wanted < 0 || row[1] === wanted).map(([id, row]) => [...row, id]);
  const rows = [...ended, ...live], order = (row) => (row[2] > 3 ? -1 : row[2] > 2 ? 2 : row[2] > 1 ? 1 : 0);
  rows.sort((a, b) => order(a) - order(b) || a[3] - b[3]);
  const held = rows.filter((r) => r[2] < 2 || r[2] > 3).map((r) => r[3]).sort((a, b) => a - b);
  const ends = rows.map((r) => r[4]).filter((v) => v !== null).sort((a, b) => a - b);
  const from = Math.max(held.length ? held[Math.floor(held.length * .02)] : now - 600, now - 6 * 3600);
  const to = Math.max(now + 600, ends.length ? ends[Math.floor(ends.length * .98)] : 0);
  const x = (t) => (t - from) / (to - from) * width, most = Math.max(1, Math.floor(room / 3)), free = [], bars = [];
  for (const row of rows) {
    const stop = row[4] === null ? to : row[4];
    let line = 0;
    while (line < free.length && free[line] > row[3]) line++;
    if (line >= most) line = bars.length % most;
    free[line] = stop;
    bars.push({ row, id: row[7], line, left: Math.max(0, x(row[3])), right: Math.min(width, x(stop)) });
  }
  const step = room / Math.max(14, free.length), tall = Math.max(1, step - (step > 4 ? 2 : 1));
  ticks(g, from, to, width, room, colour);
  const paints = [colour("--bar-run"), colour("--bar-run"), colour("--bar"), colour("--next"), colour("--done"), colour("--bad")], late = colour("--bar-late");
  let behind = 0;
  for (const bar of bars) {
    const [, , phase, , end, due] = bar.row, over = due !== null && (end === null || end > due);
    bar.top = bar.line * step + 1;
    bar.tall = tall;
    behind += over;
    g.fillStyle = over && phase !== 5 ? late : paints[phase];
    g.fillRect(bar.left, bar.top, Math.max(1.5, bar.right - bar.left - 1), tall);
  }
  chart.bars = bars;
  g.fillStyle = colour("--ink");
  g.fillRect(x(now) - 1, 0, 2, room + 4);
  g.font = "600 12px system-ui, sans-serif";
  g.textAlign = "center";
  g.fillText("now", Math.min(width - 16, Math.max(16, x(now))), height - 4);
  const chosen = bars[chart.chosen];
  if (chosen) { g.strokeStyle = colour("--ink"); g.lineWidth = 2; g.strokeRect(chosen.left - 1, chosen.top - 1, Math.max(3, chosen.right - chosen.left) + 1, Math.max(3, tall) + 2); }
  canvas.setAttribute("aria-label", `${live.length} runs, and ${ended.length} that have ended, from ${clock(from)} to ${clock(to)}; ${behind} expected past their deadline`);
}

function ticks(g, from, to, width, room, colour) {
  const steps = [300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400], most = Math.max(2, width / 90);
  const step = steps.find((s) => (to - from) / s <= most) || 86400 * Math.ceil((to - from) / 86400 / most);
  const shift = new Date(from * 1000).getTimezoneOffset() * 60;
  g.font = "12px system-ui, sans-serif";
  g.textAlign = "center";
  for (let at = Math.ceil((from - shift) / step) * step + shift; at < to; at += step) {
    const place = (at - from) / (to - from) * width;
    g.fillStyle = colour("--line");
    g.fillRect(place, 0, 1, room + 2);
    if (Math.abs(at - state.at_s) / (to - from) * width < 46 || place < 20 || place > width - 20) continue;
    g.fillStyle = colour("--soft");
    g.fillText(clock(at), place, room + 16);
  }
}

// Parts of a whole, as one bar with its legend below.
function splitBar(label, parts) {
  const whole = parts.reduce((sum, [, , value]) => sum + (value || 0), 0);
  if (!(whole > 0)) return empty("Nothing has been spent.");
  let left = 0;
  const rects = parts.map(([kind, name, value]) => {
    const rect = el("rect", { class: "s-" + kind, x: 100 * left / whole, width: 100 * (value || 0) / whole, y: 0, height: 10 }, el("title", {}, name + " " + usd(value)));
    left += value || 0;
    return rect;
  });
  const words = parts.filter(([, , value]) => value > 0).map(([, name, value]) => `${name} ${usd(value)}`).join(", ");
  const key = parts.map(([kind, name, value]) => el("span", {}, el("i", { class: "k-" + kind }), name + " ", el("strong", {}, known(value) ? usd(value) : "unknown")));
  return el("div", {}, el("svg", { class: "split", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label + ": " + words }, rects), el("p", { class: "legend" }, key));
}

// A daily series as columns.
function columns(label, values, format) {
  const top = Math.max(...values.filter(known), 0) || 1, w = 100 / Math.max(values.length, 7);
  const bars = values.map((value, i) => el("rect", { class: "column", x: i * w + .6, width: w - 1.2, y: 30 - 30 * (value || 0) / top, height: Math.max(.4, 30 * (value || 0) / top) }, el("title", {}, format(value))));
  return el("figure", {}, el("figcaption", {}, label, " ", el("strong", {}, format(values[values.length - 1]))),
    el("svg", { class: "columns", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label + " by day: " + values.map(format).join(", ") }, bars));
}

// Capacity against lateness: positions of the dial joined by a line, other policies as single dots.
function frontPicture(points) {
  const w = 560, h = 280, left = 56, foot = 40;
  const range = (values) => {
    const top = Math.max(...values), low = Math.min(...values), rough = (top - low || top || 1) / 3, size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * size).find((n) => n >= rough), from = Math.floor(low / step) * step;
    return [from, Math.ceil((top + step / 9) / step) * step, step];
  };
  const ticksOf = ([from, to, step]) => Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => from + i * step);
  const xs = range(points.map((p) => p.capacity_usd)), ys = range(points.map((p) => p.lateness_usd)), [x0, x1] = xs, [y0, y1] = ys;
  const x = (v) => left + (w - left - 90) * (v - x0) / (x1 - x0 || 1), y = (v) => h - foot - (h - foot - 16) * (v - y0) / (y1 - y0 || 1);
  const dials = points.filter((p) => known(p.dial)).sort((a, b) => a.dial - b.dial);
  const short = (v) => "$" + number(v, 2);
  const marks = [...ticksOf(xs).map((v) => el("text", { class: "soft", x: x(v), y: h - foot + 16, "text-anchor": "middle" }, short(v))),
    ...ticksOf(ys).map((v) => [el("line", { class: "grid", x1: left, y1: y(v), x2: w - 90, y2: y(v) }), el("text", { class: "soft", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, short(v))])];
  let last = -99;
  const dots = [...points].sort((a, b) => y(a.lateness_usd) - y(b.lateness_usd)).map((p) => {
    const at = Math.max(y(p.lateness_usd) + 4, last + 13), text = known(p.dial) ? "× " + number(p.dial, 2) + (p.here ? ", in force" : "") : p.name;
    last = at;
    return el("g", {}, el("circle", { class: p.here ? "here" : known(p.dial) ? "dial" : "dot", cx: x(p.capacity_usd), cy: y(p.lateness_usd), r: p.here ? 7 : 4.5 }),
      el("text", { class: p.here ? "strong" : null, x: x(p.capacity_usd) + 11, y: at }, text));
  });
  return el("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": "Capacity cost against lateness cost, one dot per position of the dial or policy" },
    el("line", { class: "axis", x1: left, y1: h - foot, x2: w - 8, y2: h - foot }), el("line", { class: "axis", x1: left, y1: 8, x2: left, y2: h - foot }), marks,
    el("text", { class: "soft", x: w - 8, y: h - 6, "text-anchor": "end" }, "capacity →"), el("text", { class: "soft", x: left + 8, y: 12 }, "↑ lateness"),
    dials.length > 1 ? el("polyline", { class: "front", points: dials.map((p) => `${x(p.capacity_usd)},${y(p.lateness_usd)}`).join(" ") }) : null, dots);
}

// A link inside a picture.
function textLink(href, ...children) {
  return href ? el("svg:a", { href }, ...children) : children;
}

// Deployments as boxes, datasets as pills, from left to right; the colour of the edge of a box is its health.
function graphPicture(graph) {
  const layers = [], wide = 160, gap = 38, tall = 30, rise = 42;
  graph.nodes.forEach((node, at) => (layers[node.layer] ||= []).push(at));
  const deepest = Math.max(...layers.map((l) => (l ? l.length : 0))), w = layers.length * (wide + gap) - gap + 8, h = deepest * rise + 8, place = [];
  layers.forEach((nodes, column) => (nodes || []).forEach((at, row) => { place[at] = [4 + column * (wide + gap), 4 + (row + .5) * (h - 8) / nodes.length]; }));
  const edges = graph.edges.map(([a, b]) => {
    const [x1, y1] = place[a], [x2, y2] = place[b];
    return el("path", { class: "edge", d: `M${x1 + wide} ${y1} C${x1 + wide + 20} ${y1} ${x2 - 20} ${y2} ${x2} ${y2}` });
  });
  const short = (text) => (text.length > 21 ? text.slice(0, 20) + "…" : text);
  const nodes = graph.nodes.map((n, at) => {
    const [x, y] = place[at], kind = String(n.status || "unknown").replace(/[^a-z]/g, "");
    return el("g", {}, el("title", {}, n.name + (n.status ? ", " + n.status : "")),
      el("rect", { class: "node " + n.kind + " e-" + kind, x, y: y - tall / 2, width: wide, height: tall, rx: n.kind === "dataset" ? 15 : 5 }),
      textLink(n.kind === "dataset" ? (session.details ? "/dataset?name=" + encodeURIComponent(n.name) : null) : deploymentPage(n.name), el("text", { x: x + 12, y: y + 4 }, (MARKS[kind] && kind !== "healthy" && kind !== "passed" ? MARKS[kind] + " " : "") + short(n.name))));
  });
  return scroller("Picture of the pipelines", el("svg", { class: "graph", width: w, height: h, viewBox: `0 0 ${w} ${h}`, role: "group", "aria-label": graph.edges.length + " links between deployments and datasets" }, edges, nodes));
}
