/** Modal dialogs on the native <dialog>. */
import { h } from "../dom.js";

let count = 0;

/** What `el` began is not begun again before it ends. */
export async function busy(el, run) {
	if (el.ariaBusy) return;
	el.ariaBusy = "true";
	try {
		await run();
	} finally {
		el.ariaBusy = null;
	}
}

/** A button; Enter in a field presses the one of a `kind`, "primary" or "danger". */
export function press({ label, kind, run, ...attrs }) {
	const el = h("button", { type: kind ? "submit" : "button", class: kind, ...attrs }, label);
	el.onclick = (event) => (event.preventDefault(), busy(el, run));
	return el;
}

/** A labelled input. `tell` shows an error with buttons, or none; `fail` also moves the focus there. */
export function field(label, attrs, hint) {
	const id = `field-${++count}`, about = `${id}-about`;
	const error = h("p.error.row", { "aria-live": "polite" });
	const input = h("input", { id, autocomplete: "off", "aria-describedby": about, ...attrs });
	const el = h("div.field", h("label", { for: id }, label), input,
		h("div", { id: about }, error, h("p.muted", hint)));
	const tell = (text = "", ...buttons) => {
		input.ariaInvalid = text ? "true" : null;
		error.replaceChildren(text, ...buttons.map(press));
	};
	input.oninput = () => tell();
	return { el, input, tell, fail: (...what) => (tell(...what), input.focus()) };
}

/** A dialog to be shown, in steps if need be, and closed with a text. `guard` is asked before Esc closes it; it keeps
 * only Close when the item that it is about is deleted. */
export function dialog({ t, store }, { guard, topic, id } = {}) {
	const el = h("dialog"), life = new AbortController();
	el.oncancel = async (event) => {
		if (!guard) return;
		event.preventDefault();
		if (await guard()) el.close();
	};
	const closed = new Promise((resolve) => (el.onclose = () => {
		life.abort();
		el.remove();
		// The row of the opener may be gone.
		if (document.activeElement === document.body) document.querySelector("main h2")?.focus();
		resolve(el.returnValue);
	}));

	/** Closes with what `run` gives, unless undefined. What another admin changed is not lost unseen. */
	async function end(run, at, etag) {
		try {
			const got = await run(etag);
			if (got !== undefined) el.close(got);
		} catch ({ message, details }) {
			const theirs = details?.current;
			if (!theirs) return at.fail(message);
			at.fail(t("conflict", theirs), { label: t("use_theirs"), run: () => el.close() },
				{ label: t("overwrite"), run: () => end(run, at, theirs.etag) });
		}
	}

	/** Buttons have a `run` or a `value`; an error is shown at the field `at`. */
	function show(title, content, buttons, at) {
		if (life.signal.aborted) return;
		const foot = buttons.map(({ value = "", run = () => value, ...attrs }) =>
			press({ ...attrs, run: () => end(run, at) }));
		el.ariaLabel = title;
		el.replaceChildren(h("form", { method: "dialog" }, h("h2", title), content,
			h("footer.row", foot)));
		if (!el.open) document.body.append(el), el.showModal();
		(el.querySelector("[autofocus]") ?? el.querySelector("input, footer :last-child")).focus();
	}

	if (id) store.watch(() => {
		if (store.items(topic).has(id)) return;
		show(el.ariaLabel, h("p", t("gone")), [{ label: t("close") }]);
		life.abort();
	}, life.signal);
	return { el, show, closed, life };
}

/** Asks before what cannot be undone; `typeName` has to be typed. */
export function confirm(app, { title, text, list, label, typeName }) {
	const { t } = app, box = dialog(app), typed = typeName && field(t("type_name", { name: typeName }));
	const run = () => !typed || typed.input.value.trim() === typeName || typed.fail(t("mistyped"));
	const names = list && h("ul", list.map((name) => h("li", name)));
	box.show(title, [h("p", text), names, typed?.el],
		[{ label: t("cancel"), autofocus: true }, { label, kind: "danger", run }]);
	return box.closed.then(Boolean);
}
