/** The live table of accounts, and what can be done to one or to many. */
import { act, h, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { columns } from "../ui/columns.js";
import { bySeverity, SEVERITY, status } from "../ui/status.js";
import { table } from "../ui/table.js";

const STATUSES = ["active", "rate_limited", "invalid", "inactive"];
const FIELDS = ["id", "name", "type", "organization_name", "status", "status_reason", "status_since",
  "rate_limited_until", "expires_at", "last_refresh_at", "last_refresh_error", "last_used_at", "created_at",
  "in_flight", "requests", "errors", "day.requests", "day.errors", "day.input_tokens",
  "day.output_tokens", "day.cost_usd"];

export default async function mount(root, app) {
  const { t } = app;
  const { column, plain, usage, choice } = columns(app);
  const fields = [
    column("name", null, { sort: (a) => a.name.toLowerCase(), cell(td) {
      const link = h("a"), org = h("small");
      td.append(h("span", { class: "two" }, link, org));
      return (a) => {
        setText(link, a.name);
        setAttr(link, "href", `#/accounts/${a.id}`);
        setText(org, a.type === "api_key" ? t("api_key") : a.organization_name ?? "");
      };
    }, title: (a) => a.name }),
    column("state", null, { sort: (a) => SEVERITY.indexOf(a.status), title: (a) => a.status_reason, cell(td) {
      const { el, patch } = status(app);
      td.append(el);
      return patch;
    } }),
    plain("expires", "expires_at", (at, a) => (a.refreshing ? t("refreshing") : app.until(at))),
    plain("resets", "rate_limited_until", (at) => app.until(at, "resetting")),
    plain("in_flight", "in_flight", number, { cls: "num low" }), ...usage("num low"),
    column("refresh_error", null, { cls: "low", cell(td) {
      const error = h("button", { class: "link", "aria-expanded": "false" });
      error.onclick = () => (error.ariaExpanded = String(td.parentElement.classList.toggle("open")));
      return ({ last_refresh_error: text }) => {
        if (!text) return error.remove();
        setText(error, text);
        if (!error.isConnected) td.append(error);
      };
    } }),
    plain("last_used", "last_used_at", app.ago, { cls: "low" }),
  ];

  const main = { invalid: "reauthorise", inactive: "reactivate" };
  const list = table(app, {
    topic: "accounts", caption: t("accounts"), noun: t("account"), columns: fields, order: bySeverity,
    name: (a) => a.name,
    search: (a) => `${a.name} ${a.organization_name} ${a.id} ${a.last_refresh_error} ${a.status_reason}`,
    chips: { param: "status", label: t("status"), of: (a) => a.status, options:
      STATUSES.map((value) => ({ value, label: t(value === "rate_limited" ? "limited" : value) })) },
    primary: ({ status: is, type }) =>
      (type === "oauth" || is === "inactive" ? choice(main[is] ?? "refresh") : null),
    menu: ({ status: is, type }) => ["open", "rename", ...(type === "oauth" ? ["reauthorise", "refresh"] : []),
      is === "inactive" ? "reactivate" : "deactivate", "delete"].map(choice),
    bulk: ["deactivate", "reactivate", "delete"].map(choice),
    empty: { text: t("no_accounts"), act: "add", label: t("add_account") },
    async act(name, ids) {
      const [id] = ids;
      if (name === "open") return app.go(`#/accounts/${id}`);
      const does = await app.actions();
      if (name === "add") list.focusRow(await does.addAccount(app));
      else if (name === "delete") await does.remove(app, ids);
      else if (name === "reactivate") await does.setStatus(app, ids, "active");
      else if (name === "deactivate") await does.setStatus(app, ids, "inactive");
      else await does[name](app, id);
    },
    toolbar: [h("button", { "data-act": "export" }, t("export")),
      h("button", { class: "primary", "data-act": "add", "data-write": true }, t("add_account"))],
  });
  act(root, {
    export: async (el) => (await import("../ui/export.js")).offer(app, el, "accounts", FIELDS, list.shown()),
  });
  root.append(list.el);
  return { ...list, topics: ["accounts"] };
}
