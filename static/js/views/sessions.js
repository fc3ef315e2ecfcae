// @ts-check
/** Who is connected, under which client key, on which account. */
import { act, h, setAttr, setText, svg } from "../dom.js";
import { number } from "../format.js";
import { offer } from "../ui/export.js";
import { table } from "../ui/table.js";
import { copy } from "./connect.js";

const FIELDS = ["id", "token_id", "account_id", "ip", "user_agent", "requests", "in_flight", "created_at",
  "last_seen_at", "expires_at"];

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.css("views")]);
  const { store, t } = app, items = store.items("sessions"), stop = new AbortController();
  const named = (topic, id) => (id ? store.items(topic).get(id)?.name ?? id : "–");
  const key = (session) => named("tokens", session.token_id);
  const account = (session) => named("accounts", session.account_id);
  const column = (name, text, more) => ({ key: name, label: t(name), text, title: text, ...more });
  const plain = (name, field, text, more) =>
    column(name, (item) => text(item[field]), { sort: (item) => item[field], ...more });
  const copier = (td) => {
    const text = h("code"), button = h("button", { class: "icon", "data-act": "copy" },
      svg("svg", { class: "i", viewBox: "0 0 16 16" }, svg("path", { d: "M5 11H3V3h8v2M5 5h8v8H5z" })));
    td.append(text, button);
    return (session) => {
      setText(text, session.id);
      setAttr(button, "aria-label", t("copy.what", { what: session.id.slice(0, 8) }));
    };
  };
  const revoke = { act: "revoke", label: t("revoke"), danger: true };
  const grid = table(app, {
    topic: "sessions", caption: t("sessions"), noun: t("session_noun"), name: ({ id }) => id.slice(0, 8),
    columns: [
      column("session_id", null, { cell: copier }), column("client_key", key, { sort: key }),
      column("account_now", account, { sort: account }),
      plain("in_flight", "in_flight", number, { cls: "num" }),
      plain("expires_in", "expires_at", (at) => (at ? app.until(at) : t("in_use")), { ticks: true }),
      plain("ip", "ip", String, { cls: "low" }),
      plain("user_agent", "user_agent", String, { cls: "low" }),
      plain("request_count", "requests", number, { cls: "num low" }),
      plain("last_seen", "last_seen_at", app.ago, { cls: "low", ticks: true }),
    ],
    search: (one) => `${one.id} ${key(one)} ${account(one)} ${one.ip} ${one.user_agent}`,
    order: (a, b) => (a.created_at < b.created_at ? 1 : -1),
    primary: () => revoke, menu: () => [{ act: "only", label: t("only_key") }, revoke], bulk: [revoke],
    async act(name, ids, el) {
      if (name === "revoke") await (await app.actions()).revokeSession(app, ids, el);
      if (name === "only") app.go(`#/sessions?q=${encodeURIComponent(key(items.get(ids[0])))}`);
      if (name === "connect") app.go("#/connect");
    },
    empty: { text: t("no_sessions"), act: "connect", label: t("connect") },
    toolbar: [h("button", { "data-act": "export" }, t("export"))],
  }, stop.signal);
  act(root, {
    copy: async (el) => app.toast({ text: t(await copy(el.previousSibling) ? "copied" : "copy.manual") }),
    export: (el) => offer(app, el, "sessions", FIELDS, grid.shown()),
  }, stop.signal);
  root.append(h("h2", { tabindex: -1 }, t("sessions")), grid.el);
  return {
    topics: ["tokens", "sessions"], title: t("sessions"), patch: grid.patch, unmount: () => stop.abort(),
    tick(now) {
      grid.patch(new Map([["sessions", items.keys()]])); // keys and accounts may have been renamed
      grid.tick(now);
    },
  };
}
