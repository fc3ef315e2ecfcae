// @ts-check
/** Who is connected, under which client key, on which account. */
import { h, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { plain } from "../ui/cells.js";
import { natural } from "../ui/order.js";
import { table } from "../ui/table.js";
import { copy } from "./connect.js";

const FIELDS = ["id", "token_id", "account_id", "ip", "user_agent", "requests", "in_flight", "created_at",
	"last_seen_at", "expires_at"];
const LOW = { cls: "low" };

/** @import { App, Mount, Session, TextKey } from "../types.js" */
/** @import { Column } from "../ui/table.js" */
/** @typedef {(session: Session) => string} Text */

/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	/** @type {Text} */
	const key = ({ token_id: id }) => store.items("tokens").get(id)?.name ?? id ?? "–";
	/** @type {Text} */
	const account = ({ account_id: id }) => store.items("accounts").get(id ?? "")?.name ?? id ?? "–";
	/** The sessions of a client key stand together. @type {(a: Session, b: Session) => number} */
	const order = (a, b) => natural(key(a), key(b)) || (a.created_at < b.created_at ? 1 : -1);

	/** @type {(name: string, ids: string[]) => Promise<void>} */
	async function run(name, ids) {
		if (name === "connect") app.go("#/connect");
		if (name === "requests" || name === "open") app.go(`#/requests?session=${ids[0]}`);
		if (name === "revoke") await (await app.actions()).revokeSession(app, ids);
	}

	const grid = table(app, {
		topic: "sessions",
		noun: t("session_noun"),
		fields: FIELDS,
		columns: columns(app, key, account),
		// By their ids as well: the pages of an account and a client key link to exactly their sessions.
		search: (one) => [one.id, one.token_id, key(one), one.account_id, account(one), one.ip, one.user_agent].join(" "),
		order,
		primary: () => "revoke",
		menu: () => ["requests", "revoke"],
		bulk: ["revoke"],
		act: run,
		empty: { text: t("no_sessions"), act: "connect" },
	});
	root.append(grid.el);
	return { ...grid, topics: ["tokens", "sessions"] };
}

/**
 * @param {App} app
 * @param {Text} key the client key's name
 * @param {Text} account the account's
 * @returns {Column<Session>[]}
 */
const columns = (app, key, account) => [
	{ key: "session_id", cell: (td) => idCell(app, td) },
	titled("client_key", key),
	titled("account_now", account),
	plain("in_flight", "in_flight", number, { cls: "num" }),
	plain("expires_in", "expires_at", (at) => (at ? app.until(at) : app.t("in_use"))),
	titled("ip", ({ ip }) => ip, LOW),
	titled("user_agent", ({ user_agent }) => user_agent, LOW),
	plain("request_count", "requests", number, { cls: "num low" }),
	plain("last_seen", "last_seen_at", app.ago, LOW),
];

/**
 * A column whose text is its title and its order as well.
 * @param {TextKey} key
 * @param {Text} text
 * @param {Partial<Column<Session>>} [more]
 * @returns {Column<Session>}
 */
const titled = (key, text, more) => ({ key, text, sort: text, title: text, ...more });

/**
 * The id, with a button that copies it.
 * @param {App} app
 * @param {HTMLElement} td
 */
function idCell({ t, toast }, td) {
	const text = h("code");
	const button = h("button.link", t("copy"));
	button.onclick = async () => toast({ text: t(await copy(text) ? "copied" : "copy_manual") });
	td.append(text, button);
	return (/** @type {Session} */ { id }) => {
		setText(text, id);
		setAttr(button, "aria-label", t("copy_what", { what: id.slice(0, 8) }));
	};
}
