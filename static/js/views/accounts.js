/** The accounts, and what can be done to one or to many. */
import { h, setText } from "../dom.js";
import { number } from "../format.js";
import { DAY, bySeverity, named, plain, rank, status, usage } from "../ui/cells.js";
import { table } from "../ui/table.js";

const FIELDS = ["id", "name", "type", "organization_name", "status", "status_reason", "status_since",
	"rate_limited_until", "expires_at", "last_refresh_at", "last_refresh_error", "last_used_at", "created_at",
	"in_flight", "requests", "errors", ...DAY];

/** A key that was refused may work again: reactivating tries it. */
const rests = ({ status: is, type }) => is === "inactive" || (is === "invalid" && type === "api_key");

export default function mount(root, app) {
	const { t } = app;
	const columns = [
		named((a) => (a.type === "api_key" ? t("api_key") : a.organization_name ?? ""), (a) => `#/accounts/${a.id}`),
		{ key: "state", sort: rank, title: (a) => a.status_reason, cell(td) {
			const { el, patch } = status(app);
			td.append(el);
			return patch;
		} },
		plain("expires", "expires_at", (at, a) => (a.refreshing ? t("refreshing") : app.until(at))),
		plain("resets", "rate_limited_until", (at) => app.until(at, "resetting")),
		plain("in_flight", "in_flight", number, { cls: "num low" }), ...usage("num low"),
		{ key: "refresh_error", cls: "low", cell(td) {
			const error = h("button.link.error", { "aria-expanded": "false" });
			error.onclick = () => (error.ariaExpanded = String(td.parentElement.classList.toggle("open")));
			return ({ last_refresh_error: text }) => {
				if (!text) return error.remove();
				setText(error, text);
				if (!error.isConnected) td.append(error);
			};
		} },
		plain("last_used", "last_used_at", app.ago, { cls: "low" }),
	];
	const list = table(app, {
		topic: "accounts", noun: t("account"), columns, order: bySeverity, fields: FIELDS,
		search: (a) => `${a.name} ${a.organization_name} ${a.id} ${a.last_refresh_error} ${a.status_reason}`,
		chips: { active: t("active"), rate_limited: t("limited"), invalid: t("invalid"),
			inactive: t("inactive") },
		primary: (a) => (rests(a) ? "reactivate"
			: a.type === "oauth" && (a.status === "invalid" ? "reauthorise" : "refresh")),
		menu: (a) => ["open", "rename", ...(a.type === "oauth" ? ["reauthorise", "refresh"] : []),
			rests(a) ? "reactivate" : "deactivate", "delete"],
		bulk: ["deactivate", "reactivate", "delete"],
		empty: { text: t("no_accounts"), act: "add_account", makes: true },
		async act(name, ids) {
			const [id] = ids, to = { reactivate: "active", deactivate: "inactive" }[name];
			if (name === "open") return app.go(`#/accounts/${id}`);
			const does = await app.actions();
			if (name === "add_account") list.focusRow(await does.addAccount(app));
			else if (name === "delete") await does.remove(app, ids);
			else await (to ? does.setStatus(app, ids, to) : does[name](app, id));
		},
	});
	root.append(list.el);
	return { ...list, topics: ["accounts"] };
}
