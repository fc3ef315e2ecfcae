// @ts-check
/** Modal dialogs on the native <dialog>. */
import { changes } from "../diff.js";
import { dismiss, focus, h, refocus, setText } from "../dom.js";

/** @import { Child } from "../dom.js" */
/** @import { App } from "../types.js" */

/**
 * A button; `kind` makes it the one that Enter in a field presses.
 * @typedef {{label: string, kind?: "primary" | "danger", run?: () => unknown, [attribute: string]: unknown}} Button
 *
 * A button of a dialog: closes it with `value`, or with what `run` gives unless that is undefined. `run` is called
 * with the etag to overwrite, if somebody else changed what it changes.
 * @typedef {Omit<Button, "run"> & {value?: string, run?: (etag?: string) => unknown}} Choice
 *
 * @typedef {ReturnType<typeof field>} Field
 * @typedef {(theirs: any) => string} Conflict
 * @typedef {Dialog} Box
 */

/** What admins can change of things: a conflict names those that somebody else has changed. */
const EDITED = ["name", "role", "status", "group", "expires_at", "models", "limits", "priority", "weight", "reserve",
	"tags", "proxy", "note"];

let fields = 0;

/**
 * What `el` began is not begun again before it ends.
 * @param {HTMLElement} el
 * @param {() => unknown} run
 */
export async function busy(el, run) {
	if (el.ariaBusy) return;
	el.ariaBusy = "true";
	try {
		await run();
	} finally {
		el.ariaBusy = null;
	}
}

/** @param {Button} button */
export function press({ label, kind, run = () => {}, ...attributes }) {
	const el = h("button", { type: kind ? "submit" : "button", class: kind, ...attributes }, label);
	el.onclick = (event) => {
		event.preventDefault();
		busy(el, run);
	};
	return el;
}

/**
 * A labelled input. `tell` shows an error with buttons, or none; `fail` also moves the focus there.
 * @param {string} label
 * @param {Record<string, unknown>} attributes
 * @param {string} [hint]
 * @param {"input" | "textarea" | "select"} tag
 */
export function field(label, attributes, hint, tag = "input") {
	fields += 1;
	const id = `field-${fields}`;
	const about = `${id}-about`;
	const error = h("p.error.row", { "aria-live": "polite" });
	const input = /** @type {HTMLInputElement} */ (
		h(tag, { id, autocomplete: "off", "aria-describedby": about, ...attributes }));
	const el = h("div.field", h("label", { for: id }, label), input,
		h("div", { id: about }, error, h("p.muted", hint)));
	/** @type {(text?: string, ...buttons: Button[]) => void} */
	const tell = (text = "", ...buttons) => {
		input.ariaInvalid = text ? "true" : null;
		error.replaceChildren(text, ...buttons.map(press));
	};
	/** @type {(text: string, ...buttons: Button[]) => void} */
	const fail = (text, ...buttons) => {
		tell(text, ...buttons);
		input.closest("details")?.setAttribute("open", "");
		input.focus();
	};
	input.oninput = () => tell();
	return { el, input, tell, fail };
}

/**
 * Says in `note` that its panel could not be loaded and why, with a button that tries again.
 * @param {App} app
 * @param {HTMLElement} note
 * @param {unknown} error
 * @param {() => unknown} again
 */
export function notLoaded({ t }, note, error, again) {
	const { message } = /** @type {Error} */ (error);
	const run = async () => {
		await again();
		refocus(); // the button is gone
	};
	note.replaceChildren(`${t("not_loaded")} ${message} `, press({ label: t("retry"), run }));
}

/** What is typed into a field, without space around it. @param {Field} field */
export const typed = ({ input }) => input.value.trim();

/**
 * Tags in one field, separated by commas.
 * @param {string} label
 * @param {string[]} tags
 * @param {string} hint
 */
export function tagsField(label, tags, hint) {
	const made = field(label, { value: tags.join(", ") }, hint);
	const read = () => typed(made).split(",").map((tag) => tag.trim()).filter(Boolean);
	return { ...made, read };
}

/**
 * A dialog to be shown, in steps if need be, and closed with a text. `guard` is asked before Esc or another view closes
 * it; it keeps only Close when the item of `topic` with `id`, or all those with `ids`, are deleted. `conflict` says what
 * another admin has made of it; if left out, all that has changed since the dialog was made.
 * @param {App} app
 * @param {{guard?: () => boolean | Promise<boolean>, topic?: string, id?: string, ids?: string[], conflict?: Conflict}} options
 */
export function dialog(app, { guard, topic = "", id, ids = id ? [id] : [], conflict = conflictWith(app, topic, id) } = {}) {
	const made = new Dialog(app, conflict);
	if (guard) made.guard(guard);
	if (ids.length) made.follow(topic, ids);
	return made;
}

/**
 * Says what is different from the item as it is now.
 * @param {App} app
 * @param {string} topic
 * @param {string} [id]
 * @returns {Conflict}
 */
function conflictWith(app, topic, id = "") {
	const before = { ...app.store.items(topic).get(id) };
	return (theirs) => conflictOf(app, before, theirs);
}

/**
 * What another admin has made of an item.
 * @param {App} app
 * @param {any} before
 * @param {any} theirs
 */
export function conflictOf(app, before, theirs) {
	const edited = (/** @type {any} */ item) => Object.fromEntries(EDITED.map((name) => [name, item[name]]));
	const what = changes(app, edited(before), edited(theirs));
	return app.t(what ? "conflict_with" : "conflict", { what });
}

class Dialog {
	/**
	 * @param {App} app
	 * @param {Conflict} conflict
	 */
	constructor({ t, store }, conflict) {
		this.conflict = conflict;
		this.t = t;
		this.store = store;
		this.el = h("dialog");
		/** By their names in the API. @type {Record<string, Field>} */
		this.fields = {};
		/** Aborted when it is closed, or only to be closed. */
		this.life = new AbortController();
		// Left to itself, the browser closes what is guarded at a second Esc.
		this.el.onkeydown = (event) => {
			if (event.key !== "Escape" || event.isComposing) return;
			event.preventDefault();
			dismiss(this.el);
		};
		/** @type {Promise<string>} */
		this.closed = new Promise((resolve) => {
			this.el.onclose = () => resolve(this.remove());
		});
	}

	remove() {
		this.life.abort();
		this.el.remove();
		refocus(); // the row of the opener may be gone
		return this.el.returnValue;
	}

	/** @param {() => boolean | Promise<boolean>} may be closed by Esc, or for another view */
	guard(may) {
		let asking = false;
		this.el.oncancel = async (event) => {
			event.preventDefault();
			if (asking) return;
			asking = true;
			if (this.life.signal.aborted || await may()) this.el.close();
			asking = false;
		};
	}

	/**
	 * Keeps only Close when all of the items are deleted.
	 * @param {string} topic
	 * @param {string[]} ids
	 */
	follow(topic, ids) {
		this.store.watch(() => {
			if (ids.some((id) => this.store.items(topic).has(id))) return;
			this.show(this.el.ariaLabel ?? "", h("p", this.t("gone")), [{ label: this.t("close") }]);
			this.life.abort();
		}, this.life.signal);
	}

	/**
	 * An error of a button's `run` is shown at that of `fields` which its message begins with, or else at the field `at`.
	 * @param {string} title
	 * @param {Child} content
	 * @param {Choice[]} choices
	 * @param {Field} [at]
	 * @param {Record<string, Field>} [fields]
	 */
	show(title, content, choices, at, fields = {}) {
		if (this.life.signal.aborted) return;
		const { el } = this;
		const foot = choices.map(({ value = "", run = () => value, ...button }) =>
			press({ .../** @type {Button} */ (button), run: () => this.end(run, at) }));
		this.fields = fields;
		const above = el.nextElementSibling;
		if (above instanceof HTMLDialogElement) dismiss(above); // it asks about what is shown no more
		el.ariaLabel = title;
		el.replaceChildren(h("form", { method: "dialog" }, h("h2", title), content, h("footer.row", foot)));
		if (!el.open) {
			document.body.append(el);
			el.showModal();
		}
		focus(el.querySelector("[autofocus]") ?? el.querySelector("input, footer :last-child"));
	}

	/**
	 * What another admin changed is not lost unseen.
	 * @param {(etag?: string) => unknown} run
	 * @param {Field | undefined} at
	 * @param {string} [etag]
	 */
	async end(run, at, etag) {
		const { el, t } = this;
		try {
			const result = await run(etag);
			if (result !== undefined) el.close(/** @type {string} */ (result));
		} catch (error) {
			const { message, details } = /** @type {import("../api.js").Failure} */ (error);
			const theirs = details?.current;
			const [, name = "", text = ""] = /^([\w.]+?)(?:\.\d+)?: (.*)/.exec(message) ?? [];
			const wrong = this.fields[name];
			if (!theirs) return wrong ? wrong.fail(text) : at?.fail(message);
			at?.fail(this.conflict(theirs), { label: t("use_theirs"), run: () => el.close() },
				{ label: t("overwrite"), run: () => this.end(run, at, theirs.etag) });
		}
	}
}

/**
 * Asks before what cannot be undone; `typeName` has to be typed. With a `topic` it is about the items of these `ids`,
 * which `names` lists if there are several: what another admin deletes is said, and if that is all, nothing is asked.
 * @param {App} app
 * @param {{title: string, text: string, label: string, topic?: string, ids?: string[], names?: string[],
 *	typeName?: string | false}} question
 */
export async function confirm(app, { title, text, label, typeName, topic = "", ids = [], names = [] }) {
	const { t } = app;
	const box = dialog(app, { topic, ids });
	const check = typeName ? field(t("type_name", { name: typeName }), {}) : null;
	const run = () => {
		if (!check || typed(check) === typeName) return true;
		return check.fail(t("mistyped"));
	};
	const lines = names.map((name) => h("li", name));
	app.store.watch(() => ids.forEach((id, at) => {
		if (lines[at] && !app.store.items(topic).has(id)) setText(lines[at], `${names[at]} · ${t("gone")}`);
	}), box.life.signal);
	box.show(title, [h("p", text), lines.length > 0 && h("ul.names", { tabindex: 0, "aria-label": title }, lines), check?.el],
		[{ label: t("cancel"), autofocus: true }, { label, kind: "danger", run }]);
	return Boolean(await box.closed);
}
