/** Client keys: who may use the proxy, how much, and what they did. */
import { subject } from "../actions.js";
import { setAttr, setText } from "../dom.js";
import { compact, money, number } from "../format.js";
import { DAY, ICON, named, plain, usage } from "../ui/cells.js";
import { table } from "../ui/table.js";
import { edit } from "./key.js";

const NEXT = { active: "disable", inactive: "enable", revoked: "delete" };
const STATUS = { disable: "inactive", enable: "active", revoke: "revoked" };

export default function mount(root, app) {
	const { store, t } = app, items = store.items("tokens");
	let sessions = new Map();
	const connected = (id) => sessions.get(id)?.length ?? 0;

	/** What has a way back needs no question. */
	async function send(verb, id) {
		const about = subject(app, id, "tokens"), status = STATUS[verb], back = status !== "revoked" && NEXT[status];
		if (!about.count || !(back || await about.ask(verb, t("key_effect", { n: connected(id) })))) return;
		await about.send(verb, () => app.api(status ? "PUT" : "DELETE", `api/tokens/${id}`, status && { status }),
			back && (() => send(back, id)));
	}
	/** "1.2M / 5M today · …" */
	const budgets = ({ used, limits }) => Object.entries(used).map(([key, n]) => {
		const most = limits[key.replace("today", "per_day").replace("this", "per")];
		const text = key.startsWith("cost") ? money : compact;
		return most && t(key.replace(/.*_t/, "t"), { used: `${text(n)} / ${text(most)}` });
	}).filter(Boolean).join(" · ") || "–";
	const low = { cls: "low" };
	const grid = table(app, {
		topic: "tokens", noun: t("key_noun"),
		fields: ["id", "name", "role", "status", "declared", "created_at", "last_used_at", "expires_at", "requests",
			...DAY],
		columns: [
			named(({ key, role, declared }) => `${key} · ${t(role)}${declared ? ` · ${t("declared")}` : ""}`),
			{ key: "state", sort: (token) => token.status, cell: (td) => ({ status }) => {
				setAttr(td, "data-kind", status);
				setText(td, `${ICON[status] ?? "✕"} ${t(status)}`);
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
		act(name, [id]) {
			const token = items.get(id);
			if (name === "create_key") edit(app);
			else if (name === "sessions") app.go(`#/sessions?q=${encodeURIComponent(token.name)}`);
			else if (!/edit|open/.test(name)) return send(name, id);
			else if (!token.declared) edit(app, { ...token });
		},
		empty: { text: t("no_keys"), act: "create_key", makes: true },
	});
	root.append(grid.el);
	return {
		...grid, topics: ["sessions", "tokens"],
		patch(dirty) {
			sessions = Map.groupBy(store.items("sessions").values(), (one) => one.token_id);
			grid.patch(dirty);
		},
	};
}
