// @ts-check
/** One account: its facts, what became of it, its use and who is on it now. */
import { h, keyed, setText } from "../dom.js";
import { clock, compact, money, ms, number } from "../format.js";
import { bars } from "../ui/chart.js";
import { press } from "../ui/dialog.js";
import { status } from "../ui/status.js";

const HOUR_S = 3600;
const join = (...parts) => parts.filter(Boolean).join(" · ");

/** Texts by the label's key; what has none is not shown. */
const facts = (a, { t, ago, until }) => ({
  a_type: t(`a_${a.type}`),
  a_org: join(a.organization_name, a.organization_uuid),
  expires: a.refreshing ? t("refreshing") : a.expires_at && until(a.expires_at),
  resets: a.rate_limited_until && until(a.rate_limited_until, "resetting"),
  a_refreshed: a.last_refresh_at && ago(a.last_refresh_at),
  refresh_error: a.last_refresh_error,
  in_flight: number(a.in_flight),
  a_day: t("a_used", { requests: number(a.day.requests), errors: number(a.day.errors),
    in: compact(a.day.input_tokens), out: compact(a.day.output_tokens), cost: money(a.day.cost_usd) }),
  a_quota: join(...Object.entries(a.quota).map(([name, { used, limit, remaining, resets_at: at }]) => {
    const left = used == null ? remaining / limit : 1 - used;
    return t("a_left", { name, n: Math.max(0, Math.round(100 * left)), at: until(at, "resetting") });
  })),
  last_used: ago(a.last_used_at),
  a_created: ago(a.created_at),
  a_id: a.id,
});

/** Patches an element whose children are pairs of texts, given as [key, text, text]. */
function pairs(el, tag, first, second) {
  const rows = new Map();
  return (lines) => {
    keyed(el, lines.map(([key]) => key), rows, () => ({ el: h(tag, null, h(first), " ", h(second)) }));
    for (const [key, one, other] of lines) {
      setText(rows.get(key).el.firstChild, one);
      setText(rows.get(key).el.lastChild, other);
    }
  };
}

export default async function mount(root, app, { id }) {
  const [actions] = await Promise.all(
    [app.actions(), app.strings("views"), app.css("views"), app.css("account")]);
  const { t, store } = app, get = () => store.items("accounts").get(id);
  const panel = (title, ...content) => h("section", { class: "panel" }, h("h3", null, t(title)), content);
  const button = (label, run, kind) =>
    press({ label: t(label), kind, run: () => run(app, id), "data-write": true });
  const title = h("h2", { tabindex: -1 }, t("a_title")), badge = status(app);
  const login = [button("reauthorise", actions.reauthorise), button("refresh_now", actions.refresh)];
  // Whether an API key works by now, setting it active tells.
  const off = ({ status: is, type }) => is === "inactive" || (is === "invalid" && type === "api_key");
  const toggle = button("deactivate", () => actions.setStatus(app, id, off(get()) ? "active" : "inactive"));
  const away = async () => await actions.remove(app, id) && app.go("#/accounts");
  const about = h("dl", { class: "panel facts" }), tell = pairs(about, "div", "dt", "dd");
  const chart = bars(app, { label: t("a_usage"), series: [
    { key: "ok", label: t("usage.ok") }, { key: "upstream_error", label: t("usage.errors") }] });
  const note = h("p", { role: "status" });
  const lists = ["events", "sessions"].map((topic) => {
    const ul = h("ul", { class: "list" }), empty = h("p", { class: "muted" });
    return { topic, empty, fill: pairs(ul, "li", "time", "span"), el: panel(`a_${topic}`, empty, ul) };
  });
  const none = h("p", null, t("a_none"));
  const body = h("div", { class: "account" }, h("div", { class: "row" }, badge.el, login,
    button("rename", actions.rename), toggle, button("delete", away, "danger")),
  about, panel("a_usage", note, chart.el), lists.map(({ el }) => el));
  root.append(h("a", { href: "#/accounts" }, `← ${t("accounts")}`), title, none, body);

  async function load() {
    try {
      const { rows } = await app.api("GET", "api/admin/usage?by=account&interval=hour");
      const used = rows.find((row) => row.id === id)?.buckets ?? [], now = Math.floor(app.now() / 1000);
      chart.patch(Array.from({ length: 24 }, (_, n) => {
        const start = now - (now % HOUR_S) - (23 - n) * HOUR_S;
        const { requests = 0, errors = 0 } = used.find((one) => ms(one.start) === start * 1000) ?? {};
        return { start, span_s: HOUR_S, ok: requests - errors, upstream_error: errors };
      }));
      chart.el.hidden = !used.length;
      note.replaceChildren(used.length ? "" : t("a_unused"));
    } catch {
      note.replaceChildren(t("usage.failed"), " ", press({ label: t("retry"), run: load }));
    }
  }

  function patch() {
    const account = get();
    none.hidden = Boolean(account) || !store.ready("accounts");
    body.hidden = !account;
    if (!account) return;
    setText(title, account.name);
    setText(toggle, t(off(account) ? "reactivate" : "deactivate"));
    for (const el of login) el.hidden = account.type !== "oauth";
    const [oldest] = store.items("events").values(), when = (at) => clock(at, { now: app.now() });
    for (const { topic, empty, fill } of lists) {
      const mine = [...store.items(topic)].filter(([, item]) => item.account_id === id).reverse();
      fill(mine.map(([key, item]) => [key, when(item.at ?? item.last_seen_at), item.text ??
        join(key.slice(0, 8), item.ip, item.user_agent, t("a_running", { n: item.in_flight }))]));
      setText(empty, mine.length ? "" : t(`a_no_${topic}`, { at: when(oldest?.at) }));
    }
    tick();
  }

  function tick() {
    const account = get();
    if (!account) return;
    badge.patch(account, app.now());
    tell(Object.entries(facts(account, app)).filter(([, text]) => text).map(([key, text]) => [key, t(key), text]));
  }

  load();
  return { topics: ["events", "sessions"], title: t("a_title"), patch, tick, unmount() {} };
}
