/** Client keys: who may use the proxy, how much, and what they did. */
import { subject } from "../actions.js";
import { h, setAttr, setText } from "../dom.js";
import { compact, money, number } from "../format.js";
import { plain, usage } from "../ui/columns.js";
import { table } from "../ui/table.js";
import { edit } from "./key.js";

const ICON = { active: "●", inactive: "○", revoked: "✕" };
const NEXT = { active: "disable", inactive: "enable", revoked: "delete" };
/** The status it leads to, and the way back. */
const VERBS = { disable: ["inactive", "enable"], enable: ["active", "disable"], revoke: ["revoked"] };
const FIELDS = ["id", "name", "role", "status", "declared", "created_at", "last_used_at", "expires_at",
	"requests", "day.requests", "day.errors", "day.input_tokens", "day.output_tokens", "day.cost_usd"];

export default function mount(root, app) {
	const { store, t } = app, items = store.items("tokens");
	let sessions = new Map();
	const connected = (id) => sessions.get(id)?.length ?? 0;

	/** What has a way back needs no question. */
	async function send(verb, id) {
		const about = subject(app, id, "tokens"), [status, back] = VERBS[verb] ?? [];
		if (!about.count || !(back || await about.ask(verb, t("key_effect", { n: connected(id) })))) return;
		await about.send(verb, () => app.api(status ? "PUT" : "DELETE", `api/tokens/${id}`, status && { status }),
			back && (() => send(back, id)));
	}
	const acts = {
		create_key: () => edit(app), edit: (id) => edit(app, { ...items.get(id) }),
		open: (id) => items.get(id).declared || acts.edit(id),
		sessions: (id) => app.go(`#/sessions?q=${encodeURIComponent(items.get(id).name)}`),
	};
	/** Of each budget that has a limit: "1.2M / 5M today". */
	const budgets = ({ used, limits }) => Object.entries(used).map(([key, n]) => {
		const most = limits[key.replace("today", "per_day").replace("this", "per")];
		const text = key.startsWith("cost") ? money : compact;
		return most && t(key.replace(/.*_t/, "t"), { used: `${text(n)} / ${text(most)}` });
	}).filter(Boolean).join(" · ") || "–";
	const low = { cls: "low" };
	const grid = table(app, {
		topic: "tokens", noun: t("key_noun"), fields: FIELDS,
		columns: [
			{ key: "name", sort: (token) => token.name.toLowerCase(), title: (token) => token.name, cell(td) {
				const name = h("b"), about = h("small");
				td.append(h("span", { class: "two" }, name, about));
				return (token) => {
					setText(name, token.name);
					const from = token.declared ? [t("declared")] : [];
					setText(about, [token.key, t(token.role), ...from].join(" · "));
				};
			} },
			{ key: "state", sort: (token) => token.status, cell: (td) => ({ status }) => {
				setAttr(td, "data-kind", status);
				setText(td, `${ICON[status]} ${t(status)}`);
			} },
			...usage("num"), plain("expires_in", "expires_at", app.until, low),
			plain("created", "created_at", app.ago, low), plain("last_used", "last_used_at", app.ago, low),
			{ key: "sessions", cls: "num low", text: ({ id }) => number(connected(id)) },
			{ key: "budgets", cls: "low", text: budgets, title: budgets },
		],
		search: (token) => `${token.name} ${token.id} ${token.key}`,
		order: (a, b) => a.name.localeCompare(b.name),
		primary: (token) => !token.declared && NEXT[token.status],
		menu: (token) => ["sessions", ...(token.declared ? [] : token.status === "revoked" ? ["delete"]
			: ["edit", NEXT[token.status], "revoke"])],
		act: (name, [id]) => (acts[name] ? acts[name](id) : send(name, id)),
		empty: { text: t("no_keys"), act: "create_key", makes: true },
	});
	root.append(grid.el);
	return {
		topics: ["sessions", "tokens"], tick: grid.tick,
		patch(dirty) {
			sessions = Map.groupBy(store.items("sessions").values(), ({ token_id: id }) => id);
			grid.patch(dirty);
		},
	};
}
