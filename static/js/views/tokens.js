// @ts-check
/** Client keys: who may use the proxy, how much, and what they did. */
import { put, subject } from "../actions.js";
import { setAttr, setText } from "../dom.js";
import { money, number } from "../format.js";
import { DAY, named, plain, usage } from "../ui/cells.js";
import { limitColumn } from "../ui/limits.js";
import { natural } from "../ui/order.js";
import { table } from "../ui/table.js";
import { edit, rotate } from "./key.js";

const FIELDS = ["id", "name", "role", "status", "declared", "created_at", "last_used_at", "expires_at", "group", "tags",
	"requests", ...DAY];
const LOW = { cls: "low" };

/** @import { App, ClientKey, KeyStatus, Mount, Session, TextKey } from "../types.js" */
/** @import { Column } from "../ui/table.js" */
/** @typedef {"disable" | "enable" | "revoke" | "delete"} Verb */

/** @type {Record<KeyStatus, string>} */
export const ICON = { active: "●", inactive: "○", revoked: "✕" };
/** What can be done next, by status. @type {Record<KeyStatus, Verb>} */
export const NEXT = { active: "disable", inactive: "enable", revoked: "delete" };
/** What each does, and what undoes it. @type {Record<Verb, {status?: KeyStatus, back?: Verb}>} */
const VERBS = {
	disable: { status: "inactive", back: "enable" },
	enable: { status: "active", back: "disable" },
	revoke: { status: "revoked" },
	delete: {},
};
/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	const items = store.items("tokens");
	/** @type {Map<string, Session[]>} */
	let sessions = new Map();
	const connected = (/** @type {string} */ id) => sessions.get(id)?.length ?? 0;

	/** @type {(name: string, ids: string[]) => unknown} */
	function run(name, [id]) {
		if (name === "create_key") return edit(app);
		const token = items.get(id);
		if (!token) return undefined;
		if (name === "sessions") return app.go(`#/sessions?q=${encodeURIComponent(token.name)}`);
		if (name === "requests") return app.go(`#/requests?key=${id}`);
		if (name === "open") return app.go(`#/tokens/${id}`);
		if (name === "k_rotate") return rotate(app, { ...token });
		if (name !== "edit") return send(app, /** @type {Verb} */ (name), id, connected(id));
		return token.declared ? undefined : edit(app, { ...token });
	}

	const grid = table(app, {
		topic: "tokens",
		noun: t("key_noun"),
		fields: FIELDS,
		columns: columns(app, connected),
		search: (token) => [token.name, token.id, token.key, token.group, ...token.tags].join(" "),
		order: (a, b) => natural(a.name, b.name),
		primary: (token) => !token.declared && NEXT[token.status],
		menu,
		act: run,
		empty: { text: t("no_keys"), act: "create_key", makes: true },
	});
	root.append(grid.el);
	return {
		...grid,
		topics: ["sessions", "tokens"],
		patch(dirty) {
			sessions = Map.groupBy(store.items("sessions").values(), (session) => session.token_id);
			grid.patch(dirty);
		},
	};
}

/**
 * What has a way back needs no question. Gives how many are done.
 * @param {App} app
 * @param {Verb} verb
 * @param {string | string[]} ids
 * @param {number} n how many sessions they have
 * @param {Map<string, {token: ClientKey}>} [undone] the answers to what this undoes
 */
export async function send(app, verb, ids, n, undone) {
	const { status, back } = VERBS[verb];
	const about = subject(app, ids, "tokens", status);
	if (!about.count || (!back && !await about.ask(verb, app.t("key_effect", { n })))) return 0;
	const request = (/** @type {string} */ id) => (status
		? put(app, `api/tokens/${id}`, { status }, undone?.get(id)?.token)
		: app.api("DELETE", `api/tokens/${id}`));
	return about.send(verb, request, back && ((done) => send(app, back, [...done.keys()], n, done)));
}

/** @param {ClientKey} token @returns {TextKey[]} */
function menu({ declared, status }) {
	if (declared) return ["requests", "sessions"];
	/** @type {TextKey[]} */
	const rest = status === "revoked" ? ["delete"] : ["edit", "k_rotate", NEXT[status], "revoke"];
	return ["requests", "sessions", ...rest];
}

/**
 * @param {App} app
 * @param {(id: string) => number} connected how many sessions a client key has
 * @returns {Column<ClientKey>[]}
 */
function columns(app, connected) {
	const { t } = app;
	/** @param {ClientKey} token */
	const about = ({ key, role, group, tags, declared }) =>
		[key, t(role), group, tags.join(", "), declared && t("declared")].filter(Boolean).join(" · ");
	const [requests, tokens] = usage("num");
	return [
		named(about, ({ id }) => `#/tokens/${id}`),
		{
			key: "state",
			sort: ({ status }) => status,
			cell: (td) => ({ status }) => {
				setAttr(td, "data-kind", status);
				setText(td, `${ICON[status]} ${t(status)}`);
			},
		},
		limitColumn(app),
		requests,
		{
			key: "cost_24h",
			cls: "num",
			sort: ({ day }) => day.cost_usd,
			text: ({ day }) => money(day.cost_usd, day.unpriced_requests),
		},
		{ ...tokens, cls: "num low" },
		plain("expires_in", "expires_at", (at) => app.until(at), LOW),
		plain("last_used", "last_used_at", app.ago, LOW),
		{ key: "sessions", cls: "num low", text: ({ id }) => number(connected(id)) },
	];
}
