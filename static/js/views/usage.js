// @ts-check
/** What was used: over time from the feed, and by whom from the usage report. */
import { api } from "../api.js";
import { h, setAttr } from "../dom.js";
import { compact, money, number } from "../format.js";
import { bars } from "../ui/chart.js";
import { sheet } from "../ui/sheet.js";

/** How long it is, and the interval of its export. */
const RANGES = {
  "1h": [3600, "minute"], "24h": [86_400, "hour"], "7d": [604_800, "hour"], "30d": [2_592_000, "day"],
};
const TOKENS = ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
const CHARTS = {
  requests: ["ok", "client_error", "limited", "upstream_error", "refused", "aborted"],
  tokens: TOKENS, cost: ["cost_usd"],
};
const RELOAD_MS = 60_000;

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.css("views")]);
  const { store, t } = app, stop = new AbortController(), query = app.query();
  const range = query.get("range") in RANGES ? query.get("range") : "24h", [span_s, interval] = RANGES[range];
  const topic = `usage:${range}`;
  const charts = Object.entries(CHARTS).map(([what, keys]) => bars(app, {
    label: `${t(`usage.${what}`)}, ${t(`usage.${range}`)}`, text: what === "cost" ? money : number,
    series: keys.map((key) => ({ key, label: t(`usage.${key}`) })),
  }));
  const empty = h("p", { class: "note", hidden: true }, t("usage.empty"));
  const by = h("select", { "aria-label": t("usage.top") }, ["account", "token", "model"].map((value) =>
    h("option", { value, selected: value === query.get("by") }, t(`usage.by_${value}`))));
  const links = ["csv", "json"].map((form) => h("a", { download: `usage.${form}` }, form.toUpperCase()));
  const note = h("p", { role: "alert" });
  const heads = ["requests", "errors", ...TOKENS, "cost"].map((key) => t(`usage.${key}`));
  const top = sheet(t("usage.top"), [t("name"), ...heads]);
  const line = (row) => [row.id, [row.name ?? "–", number(row.requests), number(row.errors),
    ...TOKENS.map((key) => compact(row[key])), money(row.cost_usd)]];
  let loadedAt = 0;

  async function load() {
    loadedAt = performance.now();
    const path = `api/admin/usage?by=${by.value}&from=${new Date(app.now() - span_s * 1000).toISOString()}`;
    for (const link of links) {
      link.href = `${path}&interval=${interval}&format=${link.textContent.toLowerCase()}`;
    }
    try {
      const { rows } = await api("GET", path, undefined, { signal: stop.signal });
      top.fill(rows.sort((a, b) => b.requests - a.requests).slice(0, 10).map(line));
      note.replaceChildren();
    } catch {
      if (stop.signal.aborted) return;
      const again = h("button", null, t("retry"));
      again.onclick = load;
      note.replaceChildren(t("usage.failed"), " ", again);
    }
  }
  by.onchange = () => (app.setQuery({ by: by.value }), load());
  load();

  const panel = (title, ...parts) => h("section", { class: "panel" }, h("h3", null, title), ...parts);
  root.append(h("h2", { tabindex: -1 }, t("usage")),
    h("div", { class: "chips", role: "group", "aria-label": t("usage.range") }, Object.keys(RANGES).map((name) =>
      h("a", { class: "chip", href: `#/usage?range=${name}`, "aria-current": name === range && "true" },
        t(`usage.${name}`)))),
    empty, ...Object.keys(CHARTS).map((what, n) => panel(t(`usage.${what}`), charts[n].el)),
    panel(t("usage.top"),
      h("div", { class: "row" }, by, h("span", { class: "grow" }), t("export"), links), top.el, note));
  return {
    topics: [topic], title: t("usage"), unmount: () => stop.abort(),
    tick: () => app.online() && performance.now() - loadedAt > RELOAD_MS && load(),
    patch(dirty) {
      if (!dirty.has(topic) || !store.ready(topic)) return;
      const buckets = [...store.items(topic).values()].sort((a, b) => a.start - b.start);
      for (const chart of charts) chart.patch(buckets);
      const used = buckets.some((bucket) => Object.values(CHARTS).flat().some((key) => bucket[key]));
      setAttr(empty, "hidden", used);
    },
  };
}
