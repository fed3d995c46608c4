// One function per section of the state. Each draws its own panel and nothing else.

const tile = (name, value, note, kind) => el("div", { class: kind || null }, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null));
const more = (names, most = 3) => names.slice(0, most).join(", ") + (names.length > most ? " and " + (names.length - most) + " more" : "");

function overview() {
  const { pool, totals } = state, found = [];
  if (pool) {
    const full = known(pool.limit) && pool.limit > 0 ? pool.active / pool.limit : null;
    found.push(tile("slots held", number(pool.active), known(pool.limit) ? "of " + number(pool.limit) + (full === null ? "" : ", " + percent(full)) : "no limit", full >= 1 ? "watch" : null),
      tile("waiting", number(pool.waiting), pool.paused ? "the pool is paused" : null, pool.paused ? "bad" : null),
      tile("lateness accruing", usd(pool.accruing_usd_per_hour), "an hour", pool.accruing_usd_per_hour > 0 ? "bad" : null),
      tile("lateness dial", "× " + number(pool.lateness_weight, 2), usd(pool.slot_usd_per_hour) + " a slot hour"));
  }
  if (totals) {
    found.push(tile("on time", percent(totals.on_time_share), totals.span, totals.on_time_share !== null && totals.on_time_share < .95 ? "watch" : null),
      tile("failed", percent(totals.failure_share), "of " + number(totals.runs) + " runs", totals.failure_share > .05 ? "watch" : null),
      tile("spent a day", usd(totals.usd_per_day), usd(totals.cost_usd) + " in " + totals.span + (totals.utilisation === null ? "" : ", " + percent(totals.utilisation) + " of slots used")));
  }
  const open = (state.alerts || []).filter((a) => a.severity === "page" && !a.acknowledged).length;
  if (state.alerts) found.push(tile("alerts", number(state.alerts.length), open ? open + " page now" : "none pages", open ? "bad" : null));
  $("tiles").replaceChildren(...found);
}

function steering() {
  const s = state.steering || {}, off = s.switch && s.switch !== "on";
  $("mode").replaceChildren(...(s.mode ? [el("span", { class: "chip" + (off ? " bad" : "") }, off ? (s.switch === "unset" ? "not switched on" : "steering is off") : s.mode), " ", el("span", { class: "quiet" }, "by " + s.policy)] : [el("span", { class: "chip" }, "not steered")]),
    ...(session.actions ? [" ", el("button", { type: "button", on: { click: () => act(off ? "steer-on" : "steer-off") } }, off ? "Steering on" : "Steering off")] : []));
}

let spentBy = "deployment", healthOf = "rows", filter = "";

const draw = {
  pool: overview,
  totals: overview,
  steering,
  title(text) {
    $("pool").textContent = text;
    document.title = text + " · prefect-intelligent";
    for (const id of ["queues", "gantt", "risk"]) $(id).hidden = true;
  },
  queues(rows) {
    body("queues").replaceChildren(rows.length ? table(rows.length + " queues", [["queue", (r) => ofQueue(r.name)], ["priority", (r) => r.priority, 1],
      ["limit", (r) => (r.paused ? tag("paused") : limit(r.limit)), 1], ["waiting", (r) => number(r.waiting), 1], ["active", (r) => number(r.active), 1],
      ["late", (r) => (r.late ? el("span", { class: "tag late" }, number(r.late)) : "0"), 1], ["work", (r) => span(r.work_s), 1], ["oldest waits", (r) => span(r.oldest_s), 1]], rows) : empty("The pool has no queues."));
  },
  risk(rows) {
    const eta = (r) => (r.eta_s ? clock(r.eta_s) : "no slot in sight"), over = (r) => (r.eta_s ? span(r.eta_s - r.due_s) : "–");
    body("risk").replaceChildren(rows.length ? table(rows.length + " runs, dearest first", [["deployment", (r) => ofDeployment(r.deployment)], ["queue", (r) => ofQueue(r.queue)], ...(runPage("x") ? [["run", (r) => linked(String(r.id).slice(0, 8), runPage(r.id))]] : []), ["due", (r) => clock(r.due_s)],
      ["expected end", eta], ["late by", over, 1], ["chance", (r) => percent(r.chance), 1], ["an hour costs", (r) => usd(r.usd_per_hour), 1]], rows) : empty("No run is expected to miss its deadline."));
  },
  alerts(rows) {
    const item = (r) => el("li", { class: r.acknowledged ? "done" : null }, el("p", {}, tag(r.severity), " ", r.summary),
      r.folded.length ? el("p", { class: "quiet" }, (r.rule === "keeps-failing" || r.rule === "budget-burn" ? "Suffers by it: " : "Deployments: ") + more(r.folded)) : null,
      el("p", { class: "quiet" }, "Since " + clock(r.since_s) + ". ", session.live ? el("a", { href: "/runbooks/" + encodeURIComponent(r.rule) }, "What to do") : "Runbook " + r.rule, r.acknowledged ? ", acknowledged" : "",
        session.actions && !r.acknowledged ? [" ", el("button", { type: "button", on: { click: () => act("acknowledge", r.key) } }, "Acknowledge")] : null));
    body("alerts").replaceChildren(rows.length ? scroller("All alerts", el("ul", { class: "plain" }, rows.map(item))) : empty("Nothing needs a person."));
    overview();
  },
  decisions(rows) {
    const change = (c) => (c[0] === null ? "pool" : c[0]) + " " + c[1] + " " + limit(c[2]) + " → " + limit(c[3]);
    const why = (r) => [...r.reasons.map((x) => el("li", {}, x)), ...r.queues.map((q) => el("li", {}, el("strong", {}, q.name), ": " + q.reasons.join("; ")))];
    const open = rows.find((r) => r.changes.length);
    const item = (r) => el("li", {}, el("p", {}, el("time", {}, clock(r.at_s)), " ", tag(r.outcome), r.times > 1 ? el("span", { class: "quiet" }, " " + number(r.times) + " times since " + clock(r.since_s)) : null, " ", r.changes.length ? r.changes.map(change).join(", ") : r.planned.length ? "would set " + r.planned.map(change).join(", ") : ""),
      r.reasons.length || r.queues.length ? el("details", { open: r === open ? "" : null }, el("summary", {}, "Why"), el("ul", {}, why(r))) : null);
    body("decisions").replaceChildren(rows.length ? scroller("All decisions", el("ol", { class: "plain" }, rows.map(item))) : empty("No decision has been made yet."));
  },
  health(all) {
    const box = body("health"), rows = all[healthOf];
    if (!all.rows.length) return box.replaceChildren(empty("Not enough data: no run in the history. Run prefect-intelligent sync."));
    const shown = rows.filter((r) => r.name.toLowerCase().includes(filter));
    const counts = ["degraded", "warning", "unknown", "healthy"].map((name) => [name, rows.filter((r) => r.status === name).length]).filter(([, n]) => n).map(([name, n]) => el("span", {}, number(n) + " ", tag(name)));
    const search = $("filter") || el("input", { type: "search", id: "filter", placeholder: "Filter by name", "aria-label": "Filter by name", on: { input: (e) => { filter = e.target.value.toLowerCase(); draw.health(state.health); } } });
    const level = (name) => el("option", { value: name, selected: name === healthOf }, name === "rows" ? "deployments" : name);
    const choose = () => el("label", {}, "Of ", el("select", { id: "health-of", on: { change: (e) => { healthOf = e.target.value; draw.health(state.health); } } }, ["rows", "queues", "pools"].map(level)));
    const score = (r) => (r.score === null ? "–" : number(r.score));
    const term = (t) => el("li", {}, t.name + ": " + (t.value === null ? "unknown" : t.value.toFixed(2)) + ", takes " + t.takes.toFixed(1) + ", n = " + t.n + "; " + t.detail);
    const terms = (r) => (!r.terms.length ? score(r) : el("details", {}, el("summary", {}, score(r)), el("ul", { class: "plain" }, r.terms.map(term))));
    const found = table("Worst first, " + number(Math.min(50, shown.length)) + " of " + number(shown.length), [["name", (r) => (healthOf === "rows" ? ofDeployment(r.name) : r.name)], ["status", (r) => tag(r.status)], ["score", terms],
      ["good time", (r) => (r.budget ? percent(r.budget.attained) : "–"), 1], ["budget left", (r) => (r.budget ? percent(r.budget.left) : "–"), 1], ["why", (r) => r.gates.join("; ") || "–"]], shown.slice(0, 50));
    if (search.isConnected) { $("counts").replaceChildren(...counts); box.lastElementChild.replaceWith(found); }
    else box.replaceChildren(el("p", { class: "legend", id: "counts" }, counts), el("p", { class: "choose" }, search, " ", choose()), found);
  },
  spending(all) {
    if (!all.split) return body("spending").replaceChildren(empty("Not enough data: no run in the history."));
    const m = all.split, split = [["useful", "useful", m.useful_usd], ["wasted", "wasted by failures", m.wasted_usd], ["overhead", "overhead", m.overhead_usd], ["idle", "idle slots", m.idle_usd], ["late", "lateness", m.lateness_usd], ["failure", "failures", m.failure_usd]];
    const daily = all.daily, pick = Object.keys(all.by).length ? all.by : null;
    if (pick && !pick[spentBy]) spentBy = Object.keys(pick)[0];
    const words = [...all.changes.map((c) => c.series.replace(/_/g, " ") + " went from " + number(c.before, 2) + " to " + number(c.after, 2) + " on " + DAY.format(new Date(c.at_s * 1000))),
      ...all.trends.map((t) => t.series.replace(/_/g, " ") + (t.per_day > 0 ? " rises" : " falls") + (t.relative_per_day ? " by " + percent(Math.abs(t.relative_per_day)) + " a day" : ""))];
    const choose = pick ? el("label", {}, "By ", el("select", { on: { change: (e) => { spentBy = e.target.value; draw.spending(state.spending); } } }, Object.keys(pick).map((name) => el("option", { selected: name === spentBy }, name)))) : null;
    body("spending").replaceChildren(splitBar("Where the money went", split),
      el("div", { class: "series" }, columns("cost", daily.map((d) => d.cost_usd), usd), columns("failed", daily.map((d) => d.failure_share), percent), columns("takes, median", daily.map((d) => d.service_p50_s), span), columns("waits, median", daily.map((d) => d.wait_p50_s), span)),
      ...(words.length ? [el("ul", {}, words.map((w) => el("li", {}, w)))] : []),
      ...(pick ? [choose, table("Dearest first", [[spentBy, (r) => (spentBy === "deployment" ? ofDeployment(r.name) : r.name)], ["runs", (r) => number(r.runs), 1], ["useful", (r) => usd(r.useful_usd), 1], ["wasted", (r) => usd(r.wasted_usd), 1], ["overhead", (r) => usd(r.overhead_usd), 1],
        ...(pick[spentBy].some((r) => known(r.idle_usd)) ? [["idle", (r) => usd(r.idle_usd), 1]] : []), ["lateness", (r) => usd(r.lateness_usd), 1], ["failures", (r) => usd(r.failure_usd), 1]], pick[spentBy])] : []));
  },
  money(front) {
    const box = body("money");
    if (!front.points.length) return box.replaceChildren(empty("Not enough data: run prefect-intelligent replay --front to see what other positions of the dial would cost."));
    const rows = table(front.note || "", [["policy", (p) => p.name], ["dial", (p) => (known(p.dial) ? "× " + number(p.dial, 2) + (p.here ? ", in force" : "") : "–")], ["capacity", (p) => usd(p.capacity_usd), 1], ["lateness", (p) => usd(p.lateness_usd), 1]], front.points);
    box.replaceChildren(el("p", { class: "quiet" }, front.note || ""), frontPicture(front.points), el("details", {}, el("summary", {}, "As a table"), rows));
  },
  causes(rows) {
    const where = (r) => [more(r.deployments), r.downstream.length ? el("span", { class: "quiet" }, " and downstream " + more(r.downstream, 2)) : null];
    body("causes").replaceChildren(rows.length ? table(rows.length + " causes", [["cause", (r) => r.signature], ["runs", (r) => number(r.failures), 1], ["where", where], ["came with", (r) => (r.introduced_by ? "version " + r.introduced_by : r.host ? "host " + r.host : "–")],
      ["last seen", (r) => clock(r.last_s)]], rows) : empty("No failure in the history."));
  },
  quality(rows) {
    body("quality").replaceChildren(rows.length ? table(rows.length + " datasets", [["dataset", (r) => ofDataset(r.dataset)], ["outcome", (r) => tag(r.outcome)], ["failed checks", (r) => (r.failed.length ? r.failed.join(", ") : "none of " + r.checks)],
      ["set aside", (r) => number(r.quarantined) + " rows", 1], ["verified", (r) => clock(r.at_s)], ...(runPage("x") ? [["made by run", (r) => (r.run ? linked(String(r.run).slice(0, 8), runPage(r.run)) : "–")]] : [])], rows) : empty("No dataset has been verified yet."));
  },
  recommendations(rows) {
    const item = (r, at) => el("li", {}, el("p", {}, el("strong", {}, at + 1 + ". " + r.title), " saves about ", el("strong", { class: "tag healthy" }, usd(r.saving_usd_per_day)), " a day", r.interval ? " (" + usd(r.interval[0]) + " to " + usd(r.interval[1]) + ")" : ""),
      el("p", { class: "quiet" }, r.evidence));
    body("recommendations").replaceChildren(rows.length ? scroller("All recommendations", el("ol", { class: "plain" }, rows.map(item))) : empty("Nothing to recommend yet: run prefect-intelligent recommend."));
  },
  graph(graph) {
    body("graph").replaceChildren(graph.nodes.length ? graphPicture(graph) : empty("No dataset is declared: use inputs= and outputs= of the decorator."));
  },
  gantt,
  names: () => state.gantt && gantt(state.gantt),
  past: () => gantt(state.gantt || {}),
  links: () => show(["risk", "queues", "health", "quality"]),
  error(text) {
    const status = $("status");
    status.className = text ? "error" : "";
    status.textContent = text ? "Not up to date: " + text : "As of " + clock(state.at_s);
  },
  at_s() { draw.error(state.error); },
};
