/** What an admin does: asks first where needed, sends it, says what came of it. */
import { ms, span } from "./format.js";
import { confirm, dialog, field } from "./ui/dialog.js";

/** Those of `ids` that are still there and have another status. */
export function subject(app, ids, topic = "accounts", status = "") {
	const { t } = app, all = [...app.store.items(topic).values()];
	const items = all.filter((item) => [ids].flat().includes(item.id) && item.status !== status);
	const inUse = all.filter((item) => item.status === "active");
	const names = items.map(({ name, id }) => name ?? id.slice(0, 8));
	const count = items.length, many = count > 1, what = many ? t(`n_${topic}`, { n: count }) : names[0];
	return {
		many, count,
		running: items.reduce((sum, item) => sum + item.in_flight, 0),
		/** Whether no account stays active without these. */
		last: inUse.length > 0 && inUse.every((item) => items.includes(item)),
		/** Names each of several; what is `grave` has to be typed. */
		ask: (verb, text, grave = false) => confirm(app, {
			title: `${t(verb)} ${many ? what : `'${what}'`}?`, text, label: `${t(verb)} ${what}`,
			list: many && names, typeName: (count > 5 || grave) && what,
		}),
		/** Sends one request for each; gives how many are done. */
		async send(verb, request, undo) {
			const results = await Promise.allSettled(items.map(({ id }) => request(id)));
			const done = items.map(({ id }) => id).filter((_, at) => !results[at].reason), n = done.length;
			const text = results.find(({ reason }) => reason)?.reason.message;
			const said = { what: n < count ? t(`n_${topic}`, { n }) : what, ...results[0]?.value };
			const failed = many ? t("failed", { n: count - n, of: count, text }) : text;
			if (text) app.toast({ text: failed, kind: "error" });
			if (n) app.toast({ text: t(`did_${verb}`, said), undo: undo && (() => undo(done)) });
			return n;
		},
	};
}

export async function setStatus(app, ids, status, asked = false) {
	const about = subject(app, ids, "accounts", status), off = status === "inactive", last = off && about.last;
	const verb = off ? "deactivate" : "reactivate", sure = asked || !(about.many || last);
	if (!about.count || !(sure || await about.ask(verb, app.t(last ? "last_active" : "reversible")))) return;
	await about.send(verb, (id) => app.api("PUT", `api/accounts/${id}`, { status }),
		(done) => setStatus(app, done, off ? "active" : "inactive", true));
}

export const refresh = (app, id) => subject(app, id).send("refresh", async () => {
	const { account } = await app.api("POST", `api/accounts/${id}/refresh`);
	return { left: span(ms(account.expires_at) - app.now() + 30_000) }; // 8h, not 7h 59m 59s
});

export async function remove(app, ids) {
	const { t } = app, about = subject(app, ids), { last, running: n } = about;
	const text = ["delete_effect", n && "delete_running", last ? "last_active" : "delete_move", "final"];
	const said = text.filter(Boolean).map((key) => t(key, { n })).join(" ");
	return about.count && await about.ask("delete", said, last) &&
		about.send("delete", (id) => app.api("DELETE", `api/accounts/${id}`));
}

export async function revokeSession(app, ids) {
	const about = subject(app, ids, "sessions");
	if (!about.count || !await about.ask("revoke", app.t("revoke_effect", { n: about.running }))) return;
	await about.send("revoke", (id) => app.api("DELETE", `api/sessions/${id}`));
}

export function rename(app, id) {
	const { t } = app, { name, etag } = app.store.items("accounts").get(id);
	const box = dialog(app, { topic: "accounts", id }), to = field(t("name"), { value: name, maxlength: 64 });
	const run = async (ifMatch = etag) => {
		const called = to.input.value.trim(), path = `api/accounts/${id}`;
		await app.api("PUT", path, { name: called }, { ifMatch });
		const back = () => app.api("PUT", path, { name }).then(() => ({ name: called, to: name }));
		app.toast({ text: t("did_rename", { name, to: called }), undo: () => subject(app, id).send("rename", back) });
		return id;
	};
	const buttons = [{ label: t("cancel") }, { label: t("rename"), kind: "primary", run }];
	box.show(`${t("rename")} '${name}'`, to.el, buttons, to);
	to.input.select();
}

/** A new account, or with its id a new login; resolves with the id, or "". */
export const addAccount = async (app, id) => (await import("./views/wizard.js")).wizard(app, id);
export { addAccount as reauthorise };
