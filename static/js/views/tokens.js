// @ts-check
/** Client keys: who may use the proxy, how much, and what they did. */
import { act, h, setAttr, setText } from "../dom.js";
import { compact, money, number } from "../format.js";
import { confirm } from "../ui/dialog.js";
import { offer } from "../ui/export.js";
import { spark } from "../ui/spark.js";
import { table } from "../ui/table.js";
import { LIMITS, edit, isCost } from "./key.js";

const ICON = { active: "●", inactive: "○", revoked: "✕" };
const FIELDS = ["id", "name", "role", "status", "declared", "created_at", "last_used_at", "expires_at",
  "requests", "day.requests", "day.errors", "day.input_tokens", "day.output_tokens", "day.cost_usd"];

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.strings("account"), app.css("views")]);
  const { store, t } = app, items = store.items("tokens"), stop = new AbortController();
  let sessions = new Map();

  /** Sends another status, or deletes without one; `back` is the status that undoes it. */
  async function send(id, status, back) {
    const { name } = items.get(id);
    try {
      await app.api(status ? "PUT" : "DELETE", `api/tokens/${id}`, status && { status });
      const text = t(`tokens.did_${status ?? "delete"}`, { name });
      app.toast({ text, undo: back && (() => send(id, back)) });
    } catch (error) {
      app.toast({ text: error.message, kind: "error" });
    }
  }
  async function ask(verb, id, status) {
    const { name } = items.get(id), text = t("tokens.effect", { n: sessions.get(id) ?? 0 });
    const title = `${t(verb)} '${name}'?`, label = `${t(verb)} ${name}`;
    if (await confirm(app, { title, text, label })) await send(id, status);
  }
  const acts = {
    create: () => edit(app), edit: (id) => edit(app, { ...items.get(id) }),
    open: (id) => items.get(id).declared || acts.edit(id),
    disable: (id) => send(id, "inactive", "active"), enable: (id) => send(id, "active", "inactive"),
    revoke: (id) => ask("revoke", id, "revoked"), delete: (id) => ask("delete", id),
    sessions: (id) => app.go(`#/sessions?q=${encodeURIComponent(items.get(id).name)}`),
  };
  const choice = (name) => ({ act: name, label: t(name), danger: name === "revoke" || name === "delete" });
  const next = ({ status }) => ({ active: "disable", inactive: "enable", revoked: "delete" })[status];

  const used = (token) => LIMITS.slice(2).filter((limit) => token.limits[limit]).map((limit) => {
    const text = isCost(limit) ? money : compact, day = limit.endsWith("day");
    const use = token.used[limit.replace(/per_.*/, day ? "today" : "this_month")];
    return t(day ? "tokens.today" : "tokens.month", { used: `${text(use)} / ${text(token.limits[limit])}` });
  }).join(" · ") || "–";
  const column = (key, text, more) => ({ key, label: t(key), text, ...more });
  const time = (key, field, text) =>
    column(key, (token) => text(token[field]), { cls: "low", ticks: true, sort: (token) => token[field] });
  const grid = table(app, {
    topic: "tokens", caption: t("tokens"), noun: t("tokens.noun"), name: (token) => token.name,
    columns: [
      column("name", null, { sort: (token) => token.name.toLowerCase(), cell(td) {
        const name = h("b"), about = h("small");
        td.append(h("span", { class: "two" }, name, about));
        return (token) => {
          setText(name, token.name);
          const from = token.declared ? [t("tokens.declared")] : [];
          setText(about, [token.key, t(`tokens.${token.role}`), ...from].join(" · "));
        };
      }, title: (token) => (token.declared ? t("tokens.declared_why") : token.name) }),
      column("state", null, { sort: (token) => token.status, cell: (td) => ({ status }) => {
        setAttr(td, "data-kind", status);
        setText(td, `${ICON[status]} ${t(`tokens.${status}`)}`);
      } }),
      column("requests", null, { cls: "num", sort: (token) => token.day.requests, cell(td) {
        const count = h("span"), line = spark();
        td.append(line.el, count);
        return (token) => (setText(count, number(token.day.requests)), line.patch(token.spark));
      } }),
      column("tokens_24h", ({ day }) => `${compact(day.input_tokens)} / ${compact(day.output_tokens)}`,
        { cls: "num" }),
      time("expires_in", "expires_at", app.until), time("created", "created_at", app.ago),
      time("last_used", "last_used_at", app.ago),
      column("sessions", (token) => number(sessions.get(token.id) ?? 0), { cls: "num low" }),
      column("budgets", used, { cls: "low", title: used }),
    ],
    search: (token) => `${token.name} ${token.id} ${token.key} ${token.models}`,
    chips: { param: "status", label: t("status"), of: (token) => token.status,
      options: Object.keys(ICON).map((value) => ({ value, label: t(`tokens.${value}`) })) },
    order: (a, b) => a.name.localeCompare(b.name),
    primary: (token) => (token.declared ? null : choice(next(token))),
    menu: (token) => ["sessions", ...(token.declared ? [] : token.status === "revoked" ? ["delete"]
      : ["edit", next(token), "revoke"])].map(choice),
    act: (name, [id]) => acts[name](id),
    empty: { text: t("tokens.empty"), act: "create", label: t("tokens.create") },
    toolbar: [h("button", { "data-act": "export" }, t("export")),
      h("button", { class: "primary", "data-act": "create", "data-write": true }, t("tokens.create"))],
  }, stop.signal);
  act(root, { export: (el) => offer(app, el, "client-keys", FIELDS, grid.shown()) }, stop.signal);
  root.append(h("h2", { tabindex: -1 }, t("tokens")), grid.el);
  return {
    topics: ["sessions", "tokens"], title: t("tokens"), patch: grid.patch, unmount: () => stop.abort(),
    tick(now) {
      sessions = new Map();
      for (const { token_id: id } of store.items("sessions").values()) {
        sessions.set(id, (sessions.get(id) ?? 0) + 1);
      }
      grid.patch(new Map([["tokens", items.keys()]]));
      grid.tick(now);
    },
  };
}
