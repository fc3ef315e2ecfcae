/** Whether all is well, what is going on, and what needs somebody. */
import { h, keyed, setAttr, setText } from "../dom.js";
import { compact, money, ms, number, span } from "../format.js";
import { spark } from "../ui/spark.js";
import { bySeverity, ICON } from "../ui/status.js";

const SOON_MS = 600_000;
const MOST = 8;
const OUTCOMES = ["ok", "client_error", "limited", "upstream_error", "refused", "aborted"];
const sum = (bucket, ...keys) => keys.reduce((total, key) => total + bucket[key], 0);

export default async function mount(root, app) {
  const { store, t } = app;
  const stats = (id) => store.items("stats").get(id) ?? {};
  const panel = (title, ...content) => h("section", { class: "panel" }, h("h3", null, title), content);
  const figure = (key, line) => {
    const value = h("b", null, "–");
    return { value, line, el: h("div", { class: "figure" }, value, line?.el, h("span", null, t(key))) };
  };

  const verdict = h("b"), reasons = h("ul"), about = h("p", { class: "muted" });
  const health = h("section", { class: "panel health", "aria-label": t("health") }, verdict, reasons, about);
  const tiles = ["", "active", "rate_limited", "invalid", "inactive"].map((status) => {
    const count = h("b", null, "–");
    const sign = status && h("i", { "aria-hidden": "true" }, ICON[status]);
    const el = h("a", { class: "tile", "data-kind": status, href: `#/accounts?status=${status}` },
      count, h("span", null, sign, t(status || "accounts")));
    return { key: status || "total", count, el };
  });
  const requests = figure("requests_min", spark()), tokens = figure("tokens_min", spark());
  const [flight, today, cost, reset] = ["streams", "requests_today", "cost_today", "next_reset"]
    .map((key) => figure(key));
  const needs = h("ul", { class: "list" }), calm = h("p", { class: "muted" });
  const events = h("ul", { class: "list" }), none = h("p", { class: "muted" });
  const add = h("button", { class: "primary", "data-write": true }, t("add_account"));
  add.onclick = async () => (await app.actions()).addAccount(app);
  root.append(health,
    h("div", { class: "tiles" }, tiles.map(({ el }) => el)),
    h("div", { class: "panel figures" }, [flight, requests, tokens, today, cost, reset].map(({ el }) => el)),
    h("div", { class: "columns" }, panel(t("attention"), needs, calm, add),
      panel(t("last_events"), events, none, h("a", { href: "#/events" }, t("all_events")))));

  /** What is wrong with an account, if that needs somebody. */
  function trouble(account, now) {
    const { status, status_reason: reason, last_refresh_error: error, expires_at: at, refreshing } = account;
    if (status === "inactive") return null;
    if (status === "invalid") return reason ?? t("invalid");
    if (error) return t("refresh_fails", { error });
    return at && ms(at) - now < SOON_MS && !refreshing ? t("expires_soon", { in: app.until(at) }) : null;
  }

  const lines = { needs: new Map(), events: new Map() };
  /** One line for each [id, link, its text, more text, kind]. */
  function list(ul, rows, content) {
    keyed(ul, content.map(([id]) => id), rows, () => {
      const a = h("a"), text = h("span");
      return { el: h("li", null, a, " ", text), a, text };
    });
    for (const [id, href, name, more, kind] of content) {
      const { el, a, text } = rows.get(id);
      setAttr(a, "href", href);
      setText(a, name);
      setText(text, more);
      setAttr(el, "data-kind", kind);
    }
  }

  function tick(now) {
    const { status, reasons: why, started_at: started, version, insecure, draining } = stats("health");
    if (!status) return;
    setAttr(health, "data-kind", status);
    setText(verdict, t(status));
    const said = [draining && t("draining"), ...why, insecure && t("insecure")].filter(Boolean);
    const texts = said.length ? said : [t("all_well")];
    const told = reasons.textContent === texts.join("");
    if (!told) reasons.replaceChildren(...texts.map((text) => h("li", null, text)));
    setText(about, t("running", { span: span(now - ms(started)), version }));

    const accounts = stats("accounts"), { in_flight: streams, today: day } = stats("traffic");
    for (const { key, count } of tiles) setText(count, number(accounts[key]));
    setText(flight.value, number(streams));
    setText(today.value, compact(day?.requests));
    setText(cost.value, money(day?.cost_usd));
    setText(reset.value, app.until(accounts.next_reset_at, "resetting"));

    const troubled = [...store.items("accounts").values()].filter((a) => trouble(a, now));
    const needy = troubled.sort(bySeverity).slice(0, MOST);
    list(needs, lines.needs, needy.map((a) => [a.id, `#/accounts/${a.id}`, a.name, trouble(a, now)]));
    setText(calm, accounts.total === 0 ? t("no_accounts")
      : accounts.rate_limited && !accounts.active ? t("all_limited") : needy.length ? "" : t("no_attention"));
    add.hidden = accounts.total !== 0;

    const last = [...store.items("events")].slice(-MOST).reverse();
    list(events, lines.events, last.map(([id, { at, text, level, account_id: account }]) =>
      [id, account ? `#/accounts/${account}` : "#/events", app.ago(at), text, level]));
    setText(none, last.length ? "" : t("no_events", { at: app.clock(started) }));
  }

  /** The newest minute has only begun. */
  function traffic() {
    const minutes = [...store.items("usage:1h").values()].sort((a, b) => a.start - b.start).slice(0, -1);
    const count = minutes.map((minute) => sum(minute, ...OUTCOMES));
    const spent = minutes.map((m) => sum(m, "input_tokens", "output_tokens"));
    requests.line.patch(count);
    tokens.line.patch(spent);
    setText(requests.value, number(count.at(-1)));
    setText(tokens.value, compact(spent.at(-1)));
  }

  return {
    topics: ["accounts", "stats", "usage:1h", "events"],
    title: t("overview"),
    patch(dirty) {
      if (dirty.has("usage:1h")) traffic();
      if (["accounts", "stats", "events"].some((topic) => dirty.has(topic))) tick(app.now());
    },
    tick,
    unmount() {},
  };
}
