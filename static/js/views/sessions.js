// @ts-check
/** Who is connected, under which client key, on which account. */
import { filler, h, panel, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { plain } from "../ui/cells.js";
import { natural } from "../ui/order.js";
import { table } from "../ui/table.js";
import { copyButton } from "./connect.js";

const FIELDS = ["id", "token_id", "account_id", "ip", "user_agent", "requests", "in_flight", "created_at",
	"last_seen_at", "expires_at"];
const LOW = { cls: "low" };
/** So many of one account or key are shown: thousands would keep the browser busy. */
const MOST = 20;

/** @import { App, Mount, Session, TextKey } from "../types.js" */
/** @import { Line } from "../dom.js" */
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
function idCell(app, td) {
	const text = h("code");
	const button = copyButton(app, text);
	td.append(text, button);
	return (/** @type {Session} */ { id }) => {
		setText(text, id);
		setAttr(button, "aria-label", app.t("copy_what", { what: id.slice(0, 8) }));
	};
}

/**
 * The sessions of an account or a client key, those in use first, then the last seen; and the way to all of them.
 * @param {App} app
 * @param {"account_id" | "token_id"} field what holds the id
 * @param {string} id
 * @param {string} title
 * @param {string} none what to say without sessions
 */
export function sessionsOf({ t, store, clock }, field, id, title, none) {
	const ul = h("ul.list");
	const note = h("p.muted");
	const all = h("a", { href: `#/sessions?q=${id}`, hidden: true });
	const fill = filler(ul, () => h("li", h("time"), h("span")));
	/** @param {Session} session */
	const line = ({ id: session, last_seen_at: at, ip, user_agent, account_id: on, in_flight: n }) => {
		const account = field === "token_id" && store.items("accounts").get(on ?? "")?.name;
		const texts = [session.slice(0, 8), ip, user_agent, account, t("a_running", { n })];
		return /** @type {Line} */ ([session, [clock(at, { zone: false }), texts.filter(Boolean).join(" · ")]]);
	};
	return {
		el: panel(title, note, ul, all),
		patch() {
			const mine = [...store.items("sessions").values()].filter((session) => session[field] === id)
				.sort((a, b) => Number(b.in_flight > 0) - Number(a.in_flight > 0) || (a.last_seen_at < b.last_seen_at ? 1 : -1));
			fill(mine.slice(0, MOST).map(line));
			setText(note, mine.length ? "" : none);
			setText(all, t("all_sessions", { n: mine.length }));
			all.hidden = mine.length <= MOST;
		},
	};
}
