// @ts-check
/** Edits what admins set for an account: its name, when it is chosen and for whom, its way to the upstream. */
import { put, subject } from "../actions.js";
import { h } from "../dom.js";
import { dialog, field, tagsField, typed } from "../ui/dialog.js";

/** How the server shows a password that it keeps to itself. */
const HIDDEN = "***";
/** Of a percentage, so that 0.07 is 7 and not 7.000000000000001. */
const DIGITS = 4;

/** @import { Account, App } from "../types.js" */
/** @import { Field } from "../ui/dialog.js" */
/** @typedef {Pick<Account, "name" | "priority" | "weight" | "reserve" | "tags" | "proxy" | "note">} Edited */
/** @typedef {(keyof Edited)[]} Names */

/** @param {number} share */
export const percent = (share) => Number((100 * share).toFixed(DIGITS));

/**
 * Those of `edited` that differ from `before`.
 * @param {Edited} edited
 * @param {Edited} before
 * @returns {Partial<Edited>}
 */
function changed(edited, before) {
	const names = /** @type {Names} */ (Object.keys(edited));
	const different = names.filter((name) => JSON.stringify(edited[name]) !== JSON.stringify(before[name]));
	return Object.fromEntries(different.map((name) => [name, edited[name]]));
}

/**
 * @param {App} app
 * @param {string} id
 */
export function edit(app, id) {
	const { t } = app;
	const account = app.store.items("accounts").get(id);
	if (!account) return;
	const { etag } = account;
	const path = `api/accounts/${id}`;
	const form = formOf(app, account);
	const before = form.values();
	const conflict = (/** @type {Account} */ theirs) => t("conflict_with", { what: told(app, theirs, before) });
	const box = dialog(app, { topic: "accounts", id, conflict });

	/** What undoes the changes; a password that was never shown cannot be put back.
	 * @param {Partial<Edited>} changes
	 * @param {Account} saved */
	function undoOf(changes, saved) {
		const names = /** @type {Names} */ (Object.keys(changes));
		const former = Object.fromEntries(names.map((name) => [name, before[name]]));
		if (String(former.proxy).includes(HIDDEN)) return null;
		return () => subject(app, id).send("edit", () => put(app, path, former, saved));
	}

	/** @param {string} [ifMatch] */
	async function run(ifMatch = etag) {
		if (!form.valid()) return undefined;
		const changes = changed(form.values(), before);
		if (!Object.keys(changes).length) return id;
		const { account: saved } = await app.api("PUT", path, changes, { ifMatch });
		app.toast({ text: t("saved", saved), undo: undoOf(changes, saved) });
		return id;
	}

	box.show(t("edit_what", account), form.content,
		[{ label: t("cancel") }, { label: t("save"), kind: "primary", run }], form.fields.name, form.fields);
}

/**
 * What another admin has set: "Priority 5, Tags eu".
 * @param {App} app
 * @param {Account} theirs
 * @param {Edited} before
 */
function told({ t }, theirs, before) {
	const { name, priority, weight, reserve, tags, proxy, note } = theirs;
	const news = Object.entries(changed({ name, priority, weight, reserve, tags, proxy, note }, before));
	const texts = news.map(([key, value]) =>
		`${t(/** @type {keyof Edited} */ (key))} ${key === "reserve" ? `${percent(reserve)} %` : String(value ?? "") || "–"}`);
	return texts.join(", ") || t(theirs.status);
}

/**
 * @param {App} app
 * @param {Account} account
 */
function formOf({ t }, account) {
	const number = (/** @type {"priority" | "weight" | "reserve"} */ name, /** @type {object} */ attributes) =>
		field(t(name), { type: "number", required: true, step: "any", ...attributes }, t(`${name}_hint`));
	const name = field(t("name"), { value: account.name, maxlength: 64, required: true });
	const priority = number("priority", { value: account.priority, min: -1000, max: 1000, step: 1 });
	const weight = number("weight", { value: account.weight, min: 0.001, max: 1000 });
	const reserve = number("reserve", { value: percent(account.reserve), min: 0, max: 100 });
	const tags = tagsField(t("tags"), account.tags, t("tags_hint"));
	const proxy = field(t("proxy"), { value: account.proxy ?? "" }, t("proxy_hint"));
	const note = field(t("note"), { maxlength: 1000, rows: 3 }, "", "textarea");
	note.input.value = account.note;
	/** @type {Record<string, Field>} */
	const fields = { name, priority, weight, reserve, tags, proxy, note };

	/** @returns {Edited} */
	const values = () => ({
		name: typed(name),
		priority: Number(priority.input.value),
		weight: Number(weight.input.value),
		reserve: Number(reserve.input.value) / 100,
		tags: tags.read(),
		proxy: typed(proxy) || null,
		note: typed(note),
	});

	return {
		fields,
		values,
		valid: () => Boolean(name.input.form?.reportValidity()),
		content: [name.el, h("div.tiles", priority.el, weight.el, reserve.el), tags.el, proxy.el, note.el],
	};
}
