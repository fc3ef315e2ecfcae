/** Building and patching the DOM: text and attributes only, so that no string ever becomes markup. */

function build(el, attrs, children) {
	for (const name in attrs) setAttr(el, name, attrs[name]);
	el.append(...children.flat(9).filter((child) => child != null && child !== false && child !== ""));
	return el;
}

/** @returns {any} an element; strings among the children are text, null is skipped, lists are flattened */
export const h = (tag, attrs, ...children) => build(document.createElement(tag), attrs, children);

export const panel = (title, ...content) => h("section", { class: "panel" }, h("h3", null, title), content);

export const svg = (tag, attrs, ...children) =>
	build(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);

/** Writes a text node, or that of an element which holds nothing else: the node stays, and so does a
 * selection. */
export function setText(node, text) {
	const leaf = node.nodeType === 1 ? (node.firstChild ?? node.appendChild(new Text())) : node;
	if (leaf.data !== text) leaf.data = text;
}

/** true is "", null and false remove. */
export function setAttr(el, name, value) {
	const text = value == null || value === false ? null : value === true ? "" : String(value);
	if (el.getAttribute(name) === text) return;
	if (text === null) el.removeAttribute(name);
	else el.setAttribute(name, text);
}

/** Makes the rows of `ids` the container's children, in order. A row is made once; one that moves keeps its focus.
 * @param {Map<string, {el: any}>} rows */
export function keyed(container, ids, rows, make) {
	const wanted = new Set(ids);
	const focused = document.activeElement;
	for (const [id, row] of rows) {
		if (!wanted.has(id)) rows.delete(id), row.el.remove();
	}
	let at = container.firstChild;
	for (const id of wanted) {
		if (!rows.has(id)) rows.set(id, make(id));
		const el = rows.get(id)?.el;
		// Let one row go down, instead of all others up.
		if (at && at !== el && at.nextSibling === el) at.remove(), (at = el);
		if (at === el) at = at.nextSibling;
		else container.insertBefore(el, at);
	}
	const lost = focused !== document.activeElement && container.contains(focused);
	if (lost) focused.focus({ preventScroll: true });
}

/** A click on `[data-act=name]` calls `acts[name](el, event)`. */
export function act(container, acts, signal) {
	container.addEventListener("click", (event) => {
		const el = event.target.closest("[data-act]");
		if (el && container.contains(el)) acts[el.dataset.act]?.(el, event);
	}, { signal });
}
