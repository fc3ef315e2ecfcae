// @ts-check
/** The accounts, and what can be done to one or to many. */
import { h, setText } from "../dom.js";
import { number, timed } from "../format.js";
import { DAY, bySeverity, named, plain, rank, status, usage } from "../ui/cells.js";
import { quotaColumn } from "../ui/quota.js";
import { table } from "../ui/table.js";
import { explain } from "./explain.js";

const FIELDS = ["id", "name", "type", "organization_name", "status", "status_reason", "status_since", "unchecked",
	"rate_limited_until", "expires_at", "last_refresh_at", "last_refresh_error", "last_used_at", "created_at",
	"in_flight", "requests", "errors", "priority", "weight", "reserve", "tags", "proxy", "note",
	"conversations", "resources", "homes", "cache_read_share", ...DAY];

/** @import { Account, App, Mount, TextKey } from "../types.js" */
/** @import { Column } from "../ui/table.js" */

/** Whether it is reactivated: a key that was refused may work again, and that tries it. @param {Account} account */
const rests = ({ status: is, type }) => is === "inactive" || (is === "invalid" && type === "api_key");

/** @param {Account} account @returns {TextKey | false} */
function primary({ status: is, type }) {
	if (is === "inactive") return "reactivate";
	if (type === "api_key") return is === "invalid" && "replace_key";
	return is === "invalid" ? "reauthorise" : "refresh";
}

/** @param {Account} account @returns {TextKey[]} */
function menu(account) {
	/** @type {TextKey[]} */
	const credential = account.type === "oauth" ? ["reauthorise", "refresh"] : ["test", "replace_key"];
	return ["open", "rename", "why_account", ...credential, rests(account) ? "reactivate" : "deactivate", "delete"];
}

/** Why a key is refused, or the last refresh failed. @param {Account} account */
const errorOf = ({ status: is, status_reason: reason, last_refresh_error: error }) =>
	error ?? (is === "invalid" ? reason : null);

/** That error, in a line that opens. @param {HTMLElement} td */
function errorCell(td) {
	const error = h("button.link.error", { "aria-expanded": "false" });
	error.onclick = () => {
		error.ariaExpanded = String(td.parentElement?.classList.toggle("open"));
	};
	return (/** @type {Account} */ account) => {
		const text = errorOf(account);
		if (!text) {
			error.remove();
			return;
		}
		setText(error, text);
		if (!error.isConnected) td.append(error);
	};
}

/** @param {App} app @returns {Column<Account>[]} */
function columns(app) {
	const { t } = app;
	/** @param {Account} account */
	const about = ({ type, organization_name, unchecked, priority, tags }) => {
		const kind = type === "api_key" ? t("api_key") : organization_name;
		const parts = [kind, unchecked && t("unchecked"), priority && t("priority_of", { priority }), tags.join(", ")];
		return parts.filter(Boolean).join(" · ");
	};
	return [
		named(about, (account) => `#/accounts/${account.id}`),
		{
			key: "state",
			sort: rank,
			title: ({ status_reason: reason }) => reason && timed(reason, app.clock),
			cell(td) {
				const { el, patch } = status(app);
				td.append(el);
				return patch;
			},
		},
		plain("expires", "expires_at", (at, account) => (account.refreshing ? t("refreshing") : app.until(at))),
		quotaColumn(app),
		plain("in_flight", "in_flight", number, { cls: "num low" }),
		...usage("num low"),
		{ key: "refresh_error", cls: "low", filled: errorOf, cell: errorCell },
		plain("last_used", "last_used_at", app.ago, { cls: "low" }),
	];
}

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;

	/** @type {(name: string, ids: string[]) => Promise<void>} */
	async function run(name, ids) {
		const [id] = ids;
		if (name === "open") return app.go(`#/accounts/${id}`);
		const actions = await app.actions();
		switch (name) {
			case "add_account": return list.focusRow(await actions.addAccount(app));
			case "delete": return void await actions.remove(app, ids);
			case "reactivate": return actions.setStatus(app, ids, "active");
			case "deactivate": return actions.setStatus(app, ids, "inactive");
			case "rename": return actions.rename(app, id);
			case "why_account": return explain(app, id);
			case "reauthorise": return void await actions.reauthorise(app, id);
			case "replace_key": return void actions.replaceKey(app, id);
			case "test": return void await actions.test(app, id);
			case "refresh": return void await actions.refresh(app, id);
		}
	}

	const list = table(app, {
		topic: "accounts",
		noun: t("account"),
		columns: columns(app),
		order: bySeverity,
		fields: FIELDS,
		search: (account) => [account.name, account.organization_name, account.id, account.last_refresh_error,
			account.status_reason, ...account.tags].join(" "),
		chips: { active: t("active"), rate_limited: t("limited"), invalid: t("invalid"), inactive: t("inactive") },
		primary,
		menu,
		bulk: ["deactivate", "reactivate", "delete"],
		empty: { text: t("no_accounts"), act: "add_account", makes: true },
		act: run,
	});
	root.append(list.el);
	return { ...list, topics: ["accounts"] };
}
