// @ts-check
/** Building and patching the DOM: text and attributes only, so that no string ever becomes markup. */

/**
 * @typedef {Record<string, unknown>} Attributes
 * @typedef {Node | string | number | boolean | null | undefined | readonly any[]} Child
 */

/**
 * @template {string} Name
 * @typedef {Name extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Name] : HTMLElement} ElementOf
 */

/**
 * What `h` makes of "input.wide".
 * @template {string} Tag
 * @typedef {Tag extends `${infer Name}.${string}` ? ElementOf<Name> : ElementOf<Tag>} Made
 */

/**
 * @template {{el: HTMLElement}} Row
 * @typedef {Map<any, Row>} Rows
 */

/** @typedef {[id: string | number, texts: string[]]} Line */

/**
 * `h("p.muted", { title }, "text", …)`; null and false among the children are skipped, lists flattened.
 * @template {string} Tag
 * @param {Tag} tag
 * @param {...(Child | Attributes)} content
 */
export function h(tag, ...content) {
	const [name, ...classes] = tag.split(".");
	return /** @type {Made<Tag>} */ (build(document.createElement(name), classes, content));
}

/**
 * @param {string} tag
 * @param {...(Child | Attributes)} content
 */
export function svg(tag, ...content) {
	const [name, ...classes] = tag.split(".");
	return build(document.createElementNS("http://www.w3.org/2000/svg", name), classes, content);
}

/**
 * @template {Element} Kind
 * @param {Kind} el
 * @param {string[]} classes
 * @param {(Child | Attributes)[]} content
 */
function build(el, classes, content) {
	const [first, ...rest] = content;
	const attributes = first?.constructor === Object ? /** @type {Attributes} */ (first) : null;
	setAttr(el, "class", classes.join(" ") || null);
	for (const [name, value] of Object.entries(attributes ?? {})) setAttr(el, name, value);
	const children = /** @type {any[]} */ (attributes ? rest : content).flat(9);
	el.append(...children.filter((child) => child != null && child !== false && child !== ""));
	return el;
}

/**
 * @param {string} title
 * @param {...Child} content
 */
export const panel = (title, ...content) => h("section.panel", h("h3", title), content);

/** An element of the page's frame, which is always there. @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {Element | null} el */
export function focus(el) {
	if (el instanceof HTMLElement) el.focus();
}

/** Focuses the view's heading, if what had the focus is gone. */
export function refocus() {
	if (document.activeElement === document.body) focus(document.querySelector("main h2"));
}

/** Closes it as Esc does, unless its `oncancel` keeps it. @param {HTMLDialogElement} dialog */
export function dismiss(dialog) {
	if (dialog.dispatchEvent(new Event("cancel", { cancelable: true }))) dialog.close();
}

/**
 * Sets the text of a node, or of an element that holds nothing else. The node stays, and so does a selection.
 * @param {Node | null} node
 * @param {string} text
 */
export function setText(node, text) {
	if (!node) return;
	const leaf = node instanceof Element ? (node.firstChild ?? node.appendChild(new Text())) : node;
	if (/** @type {Text} */ (leaf).data !== text) /** @type {Text} */ (leaf).data = text;
}

/**
 * true is "", null and false remove.
 * @param {Element} el
 * @param {string} name
 * @param {unknown} value
 */
export function setAttr(el, name, value) {
	if (value == null || value === false) {
		el.removeAttribute(name);
		return;
	}
	const text = value === true ? "" : String(value);
	if (el.getAttribute(name) !== text) el.setAttribute(name, text);
}

/**
 * Makes the rows of `ids` the container's children, in order. A row is made once, and keeps its focus.
 * @template Id
 * @template {{el: HTMLElement}} Row
 * @param {Element} container
 * @param {Iterable<Id>} ids
 * @param {Map<Id, Row>} rows
 * @param {(id: Id) => Row} make
 */
export function keyed(container, ids, rows, make) {
	const wanted = new Set(ids);
	const focused = document.activeElement;
	for (const [id, row] of rows) {
		if (wanted.has(id)) continue;
		rows.delete(id);
		row.el.remove();
	}
	/** @type {ChildNode | null} */
	let at = container.firstChild;
	for (const id of wanted) {
		const row = rows.get(id) ?? make(id);
		rows.set(id, row);
		if (at && at !== row.el && at.nextSibling === row.el) {
			at.remove(); // one row goes down, instead of all others up
			at = row.el;
		}
		if (at === row.el) at = at.nextSibling;
		else container.insertBefore(row.el, at);
	}
	if (!(focused instanceof HTMLElement) || focused === document.activeElement) return;
	if (container.contains(focused)) focused.focus({ preventScroll: true });
}

/**
 * Gives what fills `el` with lines; what `make` gives has a child for each text.
 * @param {Element} el
 * @param {() => HTMLElement} make
 */
export function filler(el, make) {
	/** @type {Map<string | number, {el: HTMLElement}>} */
	const rows = new Map();
	return (/** @type {Line[]} */ lines) => {
		keyed(el, lines.map(([id]) => id), rows, () => ({ el: make() }));
		for (const [id, texts] of lines) {
			const cells = rows.get(id)?.el.children ?? [];
			texts.forEach((text, n) => setText(cells[n], text));
		}
	};
}

/**
 * A table that is not shown without lines.
 * @param {string} label
 * @param {string[]} heads
 */
export function sheet(label, heads) {
	const body = h("tbody");
	const head = h("tr", heads.map((text) => h("th", { scope: "col" }, text)));
	const el = h("div.scroll", { tabindex: 0, role: "group", "aria-label": label, hidden: true },
		h("table", h("thead", head), body));
	const fill = filler(body, () => h("tr", heads.map((_, n) => (n ? h("td") : h("th", { scope: "row" })))));
	return {
		el,
		/** @param {Line[]} lines */
		fill(lines) {
			el.hidden = !lines.length;
			fill(lines);
		},
	};
}

/**
 * A click on `[data-act=name]` calls `acts[name](el, event)`.
 * @param {Element} container
 * @param {Record<string, (el: any, event: MouseEvent) => unknown>} acts
 */
export function act(container, acts) {
	container.addEventListener("click", (event) => {
		const target = /** @type {Element} */ (event.target);
		const el = /** @type {HTMLElement | null} */ (target.closest("[data-act]"));
		if (!el || !container.contains(el)) return;
		acts[el.dataset.act ?? ""]?.(el, /** @type {MouseEvent} */ (event));
	});
}
