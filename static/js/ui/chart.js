// @ts-check
/** Stacked bars over time: a picture, a cursor that reads a bar out, and the same numbers as a table. */
import { h, setAttr, setText, svg } from "../dom.js";
import { clock, compact, number } from "../format.js";
import { sheet } from "./sheet.js";

const WIDTH = 720, HEIGHT = 160; // stretched to the place there is
const HATCHES = ["", "M0 6 6 0", "M0 3h6", "M3 0v6", "M0 0 6 6", "M2 2h2v2h-2z"];
/** By a bucket's seconds: the unit of a rate, and how many it has. */
const RATES = { 60: ["min", 1], 900: ["min", 15], 3600: ["h", 1], 7200: ["h", 2], 86400: ["day", 1] };

let charts = 0;

/** The least round step of which four reach `most`. */
export function niceStep(most) {
  const ten = 10 ** Math.floor(Math.log10(most / 4));
  return ten * ([1, 2, 3, 4, 5, 6, 8].find((n) => n * ten * 4 >= most) ?? 10);
}

/** `series` are {key, label, tone?}: the tone is a class of colour, by default the key. */
export function bars(app, { series, label, text = number }) {
  const id = `chart${(charts += 1)}`, whole = text === number, brief = whole ? compact : text;
  let buckets = [], cursor;
  const fill = (s) => `url(#${id}-${s})`;
  const box = (name, width, height, fills) => svg("rect", { class: name, width, height, fill: fills });
  const tile = (tone, s, d = HATCHES[s]) => svg("pattern",
    { id: `${id}-${s}`, width: 6, height: 6, patternUnits: "userSpaceOnUse" }, box(tone, 6, 6), svg("path", { d }));
  const spans = (name, n) => h("div", { class: name }, Array.from({ length: n }, () => h("span")));
  const paths = series.map((_, s) => svg("path", { fill: fill(s) }));
  const mark = box("cursor", 0, HEIGHT), last = box("partial", 0, HEIGHT, fill("last"));
  const pic = svg("svg", {
    role: "img", tabindex: 0, "aria-label": label, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
  }, series.map(({ key, tone = key }, s) => tile(tone, s)), tile("none", "last", HATCHES[1]), paths, last, mark);
  const y = spans("y", 5), x = spans("x", 6), sums = series.map(() => h("b"));
  const readout = h("p", { class: "muted" });
  const table = sheet(label, [app.t("chart.time"), ...series.map((one) => one.label)]);
  const details = h("details", null, h("summary", null, app.t("chart.table")), table.el);
  const keys = h("ul", null, series.map((one, s) =>
    h("li", null, svg("svg", { "aria-hidden": "true" }, box("", 12, 12, fill(s))), one.label, sums[s])),
  h("li", { class: "partial" }, app.t("chart.partial")));

  const of = (bucket) => series.map(({ key }) => bucket[key] ?? 0);
  const add = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const when = ({ start, span_s }, zone) => clock(start * 1000, {
    utc: span_s === 86400 || app.settings.get("time") === "utc", zone, seconds: false, now: app.now(),
  });

  function draw() {
    const each = WIDTH / (buckets.length || 1), totals = buckets.map((bucket) => add(of(bucket)));
    const most = Math.max(0, ...totals), step = Math.max(whole ? 1 : 0, most && niceStep(most)) || 1;
    const at = (n) => (HEIGHT * (1 - n / step / 4)).toFixed(1);
    const lines = series.map(() => "");
    buckets.forEach((bucket, i) => of(bucket).reduce((base, n, s) => {
      if (n) lines[s] += `M${i * each} ${at(base)}V${at(base + n)}h${each * 0.85}V${at(base)}z`;
      return base + n;
    }, 0));
    paths.forEach((path, s) => setAttr(path, "d", lines[s]));
    [...y.children].forEach((span, n) => setText(span, brief((4 - n) * step)));
    [...x.children].forEach((span, n) => each < WIDTH && setText(span, when(buckets[n * buckets.length / 6])));
    for (const [rect, i] of [[mark, buckets.indexOf(cursor)], [last, buckets.length - 1]]) {
      setAttr(rect, "width", i < 0 ? 0 : each);
      setAttr(rect, "x", i * each);
    }
    const peak = buckets[totals.indexOf(most)], [unit, parts] = RATES[peak?.span_s] ?? [];
    const sentence = app.t(most ? "chart.sentence" : "chart.none",
      { label, unit, total: text(add(totals)), peak: brief(most / parts), at: most && when(peak, true) });
    setAttr(pic, "aria-label", sentence);
    setText(readout, !buckets.includes(cursor) ? sentence
      : `${when(cursor, true)}: ${of(cursor).map((n, s) => `${series[s].label} ${text(n)}`).join(" · ")}`);
  }

  details.ontoggle = () => {
    const line = (bucket) => [bucket, [when(bucket, true), ...of(bucket).map(text)]];
    if (details.open) table.fill([...buckets].reverse().map(line));
  };
  /** What the keys lead to is spoken, what the feed changes is not. */
  const point = (index, spoken) => {
    cursor = buckets[index];
    setAttr(readout, "aria-live", spoken && "polite");
    draw();
  };
  pic.onpointermove = ({ clientX }) => {
    const { left, width } = pic.getBoundingClientRect();
    point(Math.floor(((clientX - left) / width) * buckets.length));
  };
  pic.onpointerleave = () => point(-1);
  pic.onkeydown = ({ key }) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key], end = buckets.length - 1;
    const to = buckets.includes(cursor) ? buckets.indexOf(cursor) + by : end;
    if (by) point(Math.max(0, Math.min(to, end)), true);
  };

  return {
    el: h("figure", { class: "chart" }, keys, y, pic, x, readout, details),
    /** All buckets, oldest first. */
    patch(all) {
      buckets = all;
      sums.forEach((sum, s) => setText(sum, text(add(all.map((bucket) => of(bucket)[s])))));
      setAttr(readout, "aria-live", null);
      draw();
      details.ontoggle();
    },
  };
}
