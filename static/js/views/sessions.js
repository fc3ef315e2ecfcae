/** Who is connected, under which client key, on which account. */
import { h, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { plain } from "../ui/cells.js";
import { table } from "../ui/table.js";
import { copy } from "./connect.js";

export default function mount(root, app) {
	const { store, t } = app;
	const named = (topic, field) => ({ [field]: id }) => store.items(topic).get(id)?.name ?? id ?? "–";
	const key = named("tokens", "token_id"), account = named("accounts", "account_id");
	const titled = (key, text, more) => ({ key, text, sort: text, title: text, ...more });
	const low = { cls: "low" };
	const grid = table(app, {
		topic: "sessions", noun: t("session_noun"),
		fields: ["id", "token_id", "account_id", "ip", "user_agent", "requests", "in_flight", "created_at",
			"last_seen_at", "expires_at"],
		columns: [
			{ key: "session_id", cell(td) {
				const text = h("code"), button = h("button.link", t("copy"));
				button.onclick = async () => app.toast({ text: t(await copy(text) ? "copied" : "copy_manual") });
				td.append(text, button);
				return ({ id }) => {
					setText(text, id);
					setAttr(button, "aria-label", t("copy_what", { what: id.slice(0, 8) }));
				};
			} },
			titled("client_key", key), titled("account_now", account),
			plain("in_flight", "in_flight", number, { cls: "num" }),
			plain("expires_in", "expires_at", (at) => (at ? app.until(at) : t("in_use"))),
			titled("ip", (one) => one.ip, low), titled("user_agent", (one) => one.user_agent, low),
			plain("request_count", "requests", number, { cls: "num low" }),
			plain("last_seen", "last_seen_at", app.ago, low),
		],
		search: (one) => `${one.id} ${key(one)} ${account(one)} ${one.ip} ${one.user_agent}`,
		// One client key's stand together.
		order: (a, b) => key(a).localeCompare(key(b)) || (a.created_at < b.created_at ? 1 : -1),
		primary: () => "revoke", menu: () => ["revoke"], bulk: ["revoke"],
		async act(name, ids) {
			if (name === "connect") app.go("#/connect");
			if (name === "revoke") await (await app.actions()).revokeSession(app, ids);
		},
		empty: { text: t("no_sessions"), act: "connect" },
	});
	root.append(grid.el);
	return { ...grid, topics: ["tokens", "sessions"] };
}
