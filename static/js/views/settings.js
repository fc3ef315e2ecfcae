// @ts-check
/** How this browser shows things, what the server says of itself, and help. */
import { h, setAttr, setText } from "../dom.js";

/** The first value is the usual one. */
const CHOICES = {
  theme: ["system", "light", "dark"], time: ["relative", "local", "utc"], shortcuts: ["on", "off"],
  announceEvents: ["off", "on"],
};
const KEYS = {
  "/": "search", "?": "settings", "g o": "overview", "g a": "accounts", "g s": "sessions", "g t": "tokens",
  "g u": "usage", "g e": "events", "↑ ↓ j k": "key.rows", x: "key.select", Enter: "open", ".": "actions",
  "← →": "key.chart",
};
const HELP = ["proxy", "readme"];
const MOST_OFFSET_S = 5;

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.css("views")]);
  const { t, settings, store, live } = app;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const selects = Object.entries(CHOICES).map(([key, values]) => {
    const option = (value) => h("option", { value }, t(`settings.${value}`, { zone }));
    const select = h("select", null, values.map(option)), label = t(`settings.${key}`);
    select.onchange = () => settings.set(key, select.value);
    return { key, usual: values[0], select, el: h("label", { class: "field" }, label, select) };
  });
  const facts = ["health", "version", "started", "clock"].map((key) => ({ key, dd: h("dd") }));
  const insecure = h("p", { class: "error", hidden: true }, t("insecure"));
  const panel = (key, ...parts) =>
    h("section", { class: "panel" }, h("h3", null, t(`settings.${key}`)), ...parts);
  const list = (pairs) => h("dl", { class: "facts" }, pairs.map(([name, dd]) => [h("dt", null, name), dd]));
  root.append(h("h2", { tabindex: -1 }, t("settings")), h("div", { class: "columns" },
    panel("browser", selects.map(({ el }) => el)),
    panel("server", list(facts.map(({ key, dd }) => [t(key), dd])), insecure),
    panel("keys", list(Object.entries(KEYS).map(([key, does]) => [h("kbd", null, key), h("dd", null, t(does))]))),
    panel("help", h("ul", { class: "list" }, HELP.map((key) => h("li", null, t(`help.${key}`)))))));

  function tick() {
    for (const { key, usual, select } of selects) select.value = settings.get(key, usual);
    const health = store.items("stats").get("health") ?? {};
    const { version, started_at: at, status, reasons } = health;
    const n = Math.round(Math.abs(live.offset) / 1000);
    const texts = { version, started: at && app.ago(at),
      health: status && [t(status), ...reasons].join(" · "),
      clock: t(n > MOST_OFFSET_S ? "settings.differs" : "settings.agrees", { n }) };
    for (const { key, dd } of facts) setText(dd, texts[key] ?? "–");
    setAttr(insecure, "hidden", !health.insecure);
  }
  return { topics: [], title: t("settings"), patch: tick, tick, unmount() {} };
}
