"""The live page of StatusPath: one self-contained document that reads ``metrics`` once a second and draws it."""

from __future__ import annotations

STATUS_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>fastws</title><link rel="icon" href="data:,">
<style>
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--fg:#1d2126;--dim:#5c6470;--line:#dfe1e4;--hue:#0b57b7;
--ok:#2e7d4f;--bad:#c0392b}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--card:#1c2026;--fg:#e6e8eb;--dim:#9aa3ae;--line:#2d333b;
--hue:#86b7ff;--ok:#6cc391;--bad:#ff8a7a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.4 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:clamp(1rem,4vw,2.5rem)}
h1{margin:0 0 1.25rem;font-size:1.4rem}h1 span{margin-left:.5rem;font-size:.9rem;font-weight:400;color:var(--dim)}
h2{display:flex;justify-content:space-between;margin:0 0 .5rem;font-size:.85rem;font-weight:600;
color:var(--dim)}h2 span{font-weight:400}
.cards,.charts{display:grid;gap:.75rem;margin-bottom:.75rem}
.cards{grid-template-columns:repeat(2,1fr)}
@media(min-width:36rem){.cards{grid-template-columns:repeat(3,1fr)}}
@media(min-width:60rem){.charts{grid-template-columns:repeat(3,1fr)}}
@media(min-width:62rem){.cards{grid-template-columns:repeat(6,1fr)}}
section{padding:1rem;background:var(--card);border:1px solid var(--line);border-radius:10px}
.cards b{display:block;font-size:1.35rem;line-height:1.3;white-space:nowrap;font-variant-numeric:tabular-nums}
.cards small{color:var(--dim)}
svg{display:block;width:100%;height:9rem;overflow:visible}
path{fill:none;stroke:var(--hue);stroke-width:2;vector-effect:non-scaling-stroke}
path.area{fill:var(--hue);opacity:.15;stroke:none}rect{fill:var(--hue)}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .5rem;text-align:right;border-top:1px solid var(--line);font-size:.9rem}
th{border:0;color:var(--dim);font-size:.8rem;font-weight:600}th:first-child,td:first-child{text-align:left}
.axis{display:flex;justify-content:space-between;color:var(--dim);font-size:.75rem}
@media(max-width:36rem){th,td{padding:.3rem .15rem;font-size:.75rem}th{font-size:.7rem}
td{white-space:nowrap}th:nth-child(4),td:nth-child(4){display:none}}
dl{display:grid;gap:.15rem 1.25rem;margin:0;font-size:.9rem}
dt{font-weight:600}dd{margin:0 0 .5rem;color:var(--dim)}
@media(min-width:44rem){dl{grid-template-columns:max-content 1fr;gap:.5rem 1.25rem}dd{margin:0}}
.charts+section,#applications{margin-bottom:.75rem}
.scroll{overflow-x:auto}.bad{color:var(--bad)}.ok{color:var(--ok)}
</style></head>
<body><main>
<h1>fastws<span id="version"></span> <span id="state" role="status">…</span> <span id="uptime"></span></h1>
<div class="cards" id="cards"></div>
<div class="charts">
<section><h2>Requests a second<span id="rate-top"></span></h2>
<svg id="rate" viewBox="0 0 120 40" preserveAspectRatio="none"></svg>
<div class="axis"><span>2 minutes ago</span><span>now</span></div></section>
<section><h2>Body bytes a second<span id="bytes-top"></span></h2>
<svg id="bytes" viewBox="0 0 120 40" preserveAspectRatio="none"></svg>
<div class="axis"><span>2 minutes ago</span><span>now</span></div></section>
<section><h2>Latency of all requests</h2><svg id="latency" viewBox="0 0 120 40" preserveAspectRatio="none"></svg>
<div class="axis" id="bounds"></div></section>
</div>
<section class="scroll"><h2>Threads</h2><table><thead><tr><th>worker<th>open<th>requests<th>hits<th>5xx
<th>body bytes<th>cache</tr></thead><tbody id="workers"></tbody></table></section>
<section class="scroll" id="applications" hidden><h2>Applications</h2><table><thead><tr><th>processes<th>busy
<th>waiting<th>requests<th>in the queue<th>in the application<th>ended</tr></thead>
<tbody id="calls"></tbody></table></section>
<section><h2>What the figures mean</h2><dl>
<dt>/ s<dd>The average since the figures were last read, a second ago; “in all” counts from the start.
<dt>body bytes<dd>What was really sent of the responses' contents, without their heads.
<dt>connections, open<dd>Open now, whether a request is on its way or the client keeps one for later.
<dt>hits<dd>Requests answered by replaying an answer that was there already, whose file had not changed.
A first request, a listing and a form are none. “Kept” is the memory that these answers take.
<dt>latency<dd>From a complete request head to the last byte handed to the system. A slow client's download
counts in full. “Half within” and “99 %” are bounds since the start: at least that share took no longer.
<dt>server errors<dd>Answers with a status from 500 to 599: the error log says why.
501 is among them, for a file type or a method that the configuration lacks.
<dt>to compress<dd>Files that wait for the background thread; they are sent as they are until then.
<dt>worker<dd>A thread that owns its connections from start to end; many more connections on one than on another
are chance.
<dt>busy, waiting<dd>Requests that an application has, and those that wait for a thread of one. “In the queue”
and “in the application” are averages since the start. “Ended” says why application processes were replaced:
the error log has more.
</dl></section>
</main>
<script>
"use strict";
const SECONDS = 120, history = [];
const byId = (id) => document.getElementById(id);

function parse(text) {  // Prometheus text format: name{label="value",...} number
  const samples = [];
  for (const line of text.split("\\n")) {
    const match = /^([a-z_]+)(?:{(.*)})? (\\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(/([a-z]+)="([^"]*)"/g)) labels[name] = value;
    samples.push({ name: match[1].replace(/^fastws_/, ""), labels, value: Number(match[3]) });
  }
  return (name, wanted = {}) => samples.filter((s) => s.name === name &&
    Object.entries(wanted).every(([label, value]) => s.labels[label] === value));
}

const sum = (samples) => samples.reduce((total, sample) => total + sample.value, 0);
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const span = (s) => {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].map(([unit, name], i, all) =>
    [Math.floor((i ? s % all[i - 1][0] : s) / unit), name]);
  const first = Math.max(0, parts.findIndex(([count]) => count));
  const shown = s < 60 ? [parts[3]] : parts.slice(first, first + 2);
  return shown.map(([count, name]) => `${count} ${name}`).join(" ");
};
const size = (n) => {
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(n, 1)) / 10)));
  return `${Number((n / 1024 ** unit).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
};
const time = (s) => s < 0.001 ? `${Number((s * 1e6).toPrecision(3))} µs` :
  s < 1 ? `${Number((s * 1e3).toPrecision(3))} ms` : `${Number(s.toPrecision(3))} s`;

function buckets(find) {  // the histogram's counts over all workers, no longer accumulated
  const byBound = new Map();
  for (const { labels, value } of find("request_duration_seconds_bucket"))
    byBound.set(labels.le, (byBound.get(labels.le) || 0) + value);
  let before = 0;
  return [...byBound].map(([bound, total]) => {
    const count = total - before;
    before = total;
    return { bound: bound === "+Inf" ? Infinity : Number(bound), count };
  });
}

function quantile(counts, share) {
  const total = counts.reduce((n, bucket) => n + bucket.count, 0);
  let seen = 0;
  for (const { bound, count } of counts)
    if (total && (seen += count) >= share * total) return bound === Infinity ? "longer" : `≤ ${time(bound)}`;
  return "–";
}

function line(id, values, shown) {
  byId(`${id}-top`).textContent = `up to ${shown(Math.max(0, ...values))}`;
  const top = Math.max(1, ...values), start = SECONDS - values.length + 1;
  const points = values.map((value, i) => `${start + i},${(40 - (38 * value) / top).toFixed(2)}`);
  byId(id).innerHTML = points.length < 2 ? "" :
    `<path class="area" d="M${start},40L${points.join("L")}L${SECONDS},40Z"/><path d="M${points.join("L")}"/>`;
}

function bars(counts) {
  const top = Math.max(1, ...counts.map((bucket) => bucket.count)), width = 120 / Math.max(1, counts.length);
  byId("latency").innerHTML = counts.map(({ bound, count }, i) => {
    const height = (38 * count) / top;
    return `<rect x="${i * width + 0.5}" y="${40 - height}" width="${width - 1}" height="${height}">` +
      `<title>${bound === Infinity ? "longer" : "up to " + time(bound)}: ${count}</title></rect>`;
  }).join("");
  const finite = counts.filter((bucket) => bucket.bound !== Infinity);
  byId("bounds").innerHTML = finite.length ?
    `<span>${time(finite[0].bound)}</span><span>${time(finite.at(-1).bound)}</span>` : "";
}

function cards(find, counts, rate, bytes) {
  const hits = sum(find("cache_hits_total")), misses = sum(find("cache_misses_total"));
  const share = hits + misses ? `${((100 * hits) / (hits + misses)).toFixed(1)} %` : "–";
  const failed = sum(find("requests_total", { class: "5xx" }));
  byId("cards").innerHTML = [
    ["requests / s", short.format(rate), `${short.format(sum(find("requests_total")))} in all`],
    ["body bytes / s", size(bytes), `${size(sum(find("sent_body_bytes_total")))} in all`],
    ["connections", sum(find("connections")), "open now"],
    ["cache hits", share, `${size(sum(find("cache_bytes")))} kept`],
    ["half within", quantile(counts, 0.5), `99 % ${quantile(counts, 0.99)}`],
    ["server errors", short.format(failed), `${sum(find("compression_pending"))} to compress`],
  ].map(([label, value, note]) =>
    `<section><h2>${label}</h2><b>${value}</b><small>${note}</small></section>`).join("");
}

function rows(find) {
  const workers = [...new Set(find("connections").map((sample) => sample.labels.worker))];
  byId("workers").innerHTML = workers.map((worker) => {
    const of = (name, more) => sum(find(name, { worker, ...more }));
    return `<tr><td>${worker}<td>${of("connections")}<td>${of("requests_total").toLocaleString("en")}` +
      `<td>${of("cache_hits_total").toLocaleString("en")}<td>${of("requests_total", { class: "5xx" })}` +
      `<td>${size(of("sent_body_bytes_total"))}<td>${size(of("cache_bytes"))}</tr>`;
  }).join("");
}

function calls(find) {
  const of = (name) => sum(find(`application_${name}`)), requests = of("requests_total");
  const each = (total) => requests ? time(total / requests) : "–";
  const ends = find("application_process_ends_total").filter((sample) => sample.value);
  byId("applications").hidden = !requests && !of("processes") && !of("waiting");
  byId("calls").innerHTML = `<tr><td>${of("processes") || "none"}<td>${of("busy")}<td>${of("waiting")}` +
    `<td>${requests.toLocaleString("en")}<td>${each(of("waiting_seconds_total"))}` +
    `<td>${each(of("seconds_total"))}` +
    `<td>${ends.map((sample) => `${sample.value} ${sample.labels.reason}`).join(", ") || "none"}</tr>`;
}

function draw(find) {
  const now = performance.now() / 1000, last = history.at(-1);
  const totals = { now, requests: sum(find("requests_total")), bytes: sum(find("sent_body_bytes_total")) };
  // A counter that went back belongs to a server that was started anew.
  const per = (name) => last ? Math.max(0, (totals[name] - last[name]) / (now - last.now)) : 0;
  history.push({ ...totals, rate: per("requests"), speed: per("bytes") });
  if (history.length > SECONDS + 1) history.shift();
  const counts = buckets(find), { rate, speed } = history.at(-1);
  cards(find, counts, rate, speed);
  // The first entry has nothing before it to be a rate of.
  line("rate", history.slice(1).map((entry) => entry.rate), (rate) => short.format(rate));
  line("bytes", history.slice(1).map((entry) => entry.speed), size);
  bars(counts);
  rows(find);
  calls(find);
  const draining = sum(find("draining")) > 0;
  const reload = find("config_last_reload_successful")[0], stale = reload && !reload.value;
  const serving = stale ? "is serving; the last reload failed" : "is serving";
  state(draining ? "is draining" : serving, !draining && !stale);
}

function about(find, now) {  // by the server's clock, which need not be the browser's
  const build = find("build_info")[0], start = find("start_time_seconds")[0];
  byId("version").textContent = build ? build.labels.version : "";
  byId("version").title = build ? `parser: ${build.labels.parser}, reactor: ${build.labels.reactor}` : "";
  byId("uptime").textContent = start && now ? `up for ${span(Math.max(0, now - start.value))}` : "";
}

function state(text, good) {
  byId("state").textContent = text;
  byId("state").className = good ? "ok" : "bad";
}

async function tick() {
  try {
    const response = await fetch("metrics", { cache: "no-store" });
    if (!response.ok) throw new Error(response.status);
    const find = parse(await response.text());
    draw(find);
    about(find, Date.parse(response.headers.get("Date")) / 1000);
  } catch (error) {
    state("does not answer", false);
  }
  setTimeout(tick, 1000);
}
tick();
</script></body></html>
"""
