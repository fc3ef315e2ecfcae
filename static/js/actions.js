// @ts-check
/** What an admin does: asks first where needed, sends it, says what came of it. */
import { ms, span } from "./format.js";
import { confirm, conflictOf, dialog, field, typed } from "./ui/dialog.js";
import { natural } from "./ui/order.js";

/** More than so many are not deleted by a click: their number has to be typed. */
const MANY = 5;
/** So that a token of 8 h is said to expire in "8h", not in 7h 59m 59s. */
const ROUND_UP_MS = 30_000;

/** @import { Account, App, TextKey } from "./types.js" */

/** @typedef {"refresh" | "reactivate" | "deactivate" | "delete" | "revoke" | "rename" | "disable" | "enable" | "test" | "edit"} Verb */
/** @typedef {"accounts" | "sessions" | "tokens"} TopicName */
/** @typedef {{id: string, name?: string, status?: string | null, in_flight?: number}} Item */

/**
 * Items of a topic, to be asked about and acted on: those of `ids` that are still there and have another status.
 * @param {App} app
 * @param {string | string[]} ids
 * @param {TopicName} topic
 */
export function subject(app, ids, topic = "accounts", status = "") {
	/** @type {Item[]} */
	const all = [...app.store.items(topic).values()];
	const items = all.filter((item) => [ids].flat().includes(item.id) && item.status !== status)
		.sort((a, b) => natural(a.name ?? a.id, b.name ?? b.id));
	const inUse = all.filter((item) => item.status === "active");
	return new Subject(app, topic, items, inUse.length > 0 && inUse.every((item) => items.includes(item)));
}

class Subject {
	/**
	 * @param {App} app
	 * @param {TopicName} topic
	 * @param {Item[]} items
	 * @param {boolean} last whether nothing stays active without these
	 */
	constructor(app, topic, items, last) {
		this.app = app;
		this.topic = topic;
		this.items = items;
		this.last = last;
		this.count = items.length;
		this.many = this.count > 1;
		this.running = items.reduce((sum, item) => sum + (item.in_flight ?? 0), 0);
		this.names = items.map(({ name, id }) => name ?? id.slice(0, 8));
		/** What all of them are called. */
		this.what = this.many ? this.counted(this.count) : this.names[0];
	}

	/** "3 accounts" @param {number} n */
	counted(n) {
		return this.app.t(`n_${this.topic}`, { n });
	}

	/**
	 * Names each of several; what is `grave` has to be typed.
	 * @param {Verb} verb
	 * @param {string} text
	 */
	ask(verb, text, grave = false) {
		const does = this.app.t(verb);
		const { many, what, names, topic, items } = this;
		return confirm(this.app, {
			title: `${does} ${many ? what : `'${what}'`}?`,
			text,
			label: `${does} ${what}`,
			topic,
			ids: items.map(({ id }) => id),
			names: many ? names : [],
			typeName: (this.count > MANY || grave) && what,
		});
	}

	/**
	 * Sends one request for each; gives how many are done. `undo` is called with what each of these was answered.
	 * @param {Verb} verb
	 * @param {(id: string) => Promise<any>} request
	 * @param {((done: Map<string, any>) => void) | false} [undo]
	 */
	async send(verb, request, undo) {
		const { app, topic } = this;
		// Another admin may have deleted some while this one was asked.
		const items = this.items.filter(({ id }) => app.store.items(topic).has(id));
		const count = items.length;
		const results = await Promise.allSettled(items.map(({ id }) => request(id)));
		/** @type {Map<string, any>} */
		const done = new Map(results.flatMap((result, at) =>
			(result.status === "fulfilled" ? [[items[at].id, result.value]] : [])));
		const n = done.size;
		const [refused] = results.filter((result) => result.status === "rejected");
		if (refused) this.tellFailure(refused.reason.message, count - n);
		if (!n) return n;
		const said = { what: n < count ? this.counted(n) : this.what, ...done.get(items[0].id) };
		app.toast({ text: app.t(`did_${verb}`, said), undo: undo && (() => undo(done)) });
		return n;
	}

	/**
	 * @param {string} text of the first failure
	 * @param {number} n how many failed
	 */
	tellFailure(text, n) {
		const { app, many, count: of } = this;
		app.toast({ text: many ? app.t("failed", { n, of, text }) : text, kind: "error" });
	}
}

/**
 * Changes an item. What undoes a change has its answer, `saved`: if another admin has changed the item since, it stays.
 * @param {App} app
 * @param {string} path
 * @param {object} change
 * @param {{etag: string}} [saved]
 */
export async function put(app, path, change, saved) {
	try {
		return await app.api("PUT", path, change, { ifMatch: saved?.etag });
	} catch (error) {
		const theirs = /** @type {import("./api.js").Failure} */ (error).details?.current;
		throw theirs ? new Error(conflictOf(app, saved, theirs)) : error;
	}
}

/**
 * @param {App} app
 * @param {string | string[]} ids
 * @param {"active" | "inactive"} status
 * @param {Map<string, {account: Account}>} [undone] the answers to what this undoes: nobody is asked any more
 */
export async function setStatus(app, ids, status, undone) {
	const about = subject(app, ids, "accounts", status);
	if (!about.count) return;
	const off = status === "inactive";
	const verb = off ? "deactivate" : "reactivate";
	const last = off && about.last;
	const sure = undone || !(about.many || last);
	if (!sure && !await about.ask(verb, app.t(last ? "last_active" : "reversible"))) return;
	await about.send(verb, (id) => put(app, `api/accounts/${id}`, { status }, undone?.get(id)?.account),
		(done) => setStatus(app, [...done.keys()], off ? "active" : "inactive", done));
}

/**
 * @param {App} app
 * @param {string} id
 */
export const refresh = (app, id) => subject(app, id).send("refresh", async () => {
	const { account } = await app.api("POST", `api/accounts/${id}/refresh`);
	return { left: span(ms(account.expires_at) - app.now() + ROUND_UP_MS) };
});

/**
 * Asks the API whether the account's credential works.
 * @param {App} app
 * @param {string} id
 */
export function test(app, id) {
	const about = subject(app, id);
	return about.send("test", async () => {
		const found = await app.api("POST", `api/accounts/${id}/test`);
		if (!found.ok) throw new Error(app.t("test_failed", { what: about.what, ...found }));
		return found;
	});
}

/**
 * Gives how many are deleted.
 * @param {App} app
 * @param {string | string[]} ids
 */
export async function remove(app, ids) {
	const about = subject(app, ids);
	const { last, running: n } = about;
	/** @type {TextKey[]} */
	const texts = ["delete_effect", last ? "last_active" : "delete_move", "final"];
	if (n) texts.splice(1, 0, "delete_running");
	const text = texts.map((key) => app.t(key, { n })).join(" ");
	if (!about.count || !await about.ask("delete", text, last)) return 0;
	return about.send("delete", (id) => app.api("DELETE", `api/accounts/${id}`));
}

/**
 * @param {App} app
 * @param {string | string[]} ids
 */
export async function revokeSession(app, ids) {
	const about = subject(app, ids, "sessions");
	if (!about.count || !await about.ask("revoke", app.t("revoke_effect", { n: about.running }))) return;
	await about.send("revoke", (id) => app.api("DELETE", `api/sessions/${id}`));
}

/**
 * @param {App} app
 * @param {string} id
 */
export function rename(app, id) {
	const { t } = app;
	const account = app.store.items("accounts").get(id);
	if (!account) return;
	const { name, etag } = account;
	const path = `api/accounts/${id}`;
	const box = dialog(app, { topic: "accounts", id });
	const to = field(t("name"), { value: name, maxlength: 64 });
	const run = async (ifMatch = etag) => {
		const called = typed(to);
		const { account: saved } = await app.api("PUT", path, { name: called }, { ifMatch });
		const back = async () => {
			await put(app, path, { name }, saved);
			return { name: called, to: name };
		};
		app.toast({ text: t("did_rename", { name, to: called }), undo: () => subject(app, id).send("rename", back) });
		return id;
	};
	const choices = [{ label: t("cancel") }, { label: t("rename"), kind: /** @type {const} */ ("primary"), run }];
	box.show(`${t("rename")} '${name}'`, to.el, choices, to);
	to.input.select();
}

/**
 * A new key for the account; what is wrong with it is told at the field.
 * @param {App} app
 * @param {string} id
 */
export function replaceKey(app, id) {
	const { t } = app;
	const account = app.store.items("accounts").get(id);
	if (!account) return;
	const box = dialog(app, { topic: "accounts", id });
	const key = field(t("api_key"), { type: "password" }, t("replace_hint"));
	const run = async () => {
		const api_key = typed(key);
		if (!api_key) return key.fail(t("w_needed"));
		await app.api("PUT", `api/accounts/${id}`, { api_key });
		app.toast({ text: t("did_replace_key", account) });
		return id;
	};
	const label = t("replace_key");
	box.show(`${label}: ${account.name}`, key.el, [{ label: t("cancel") }, { label, kind: "primary", run }], key);
}

/**
 * A new account, or with its id a new login; resolves with the id, or "".
 * @param {App} app
 * @param {string} [id]
 */
export async function addAccount(app, id) {
	const { wizard } = await import("./views/wizard.js");
	return wizard(app, id);
}
export { addAccount as reauthorise };
