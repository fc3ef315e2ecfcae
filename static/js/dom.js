/** Building and patching the DOM: text and attributes only, so that no string ever becomes markup. */

const builder = (create) => (tag, ...children) => {
	const [name, ...classes] = tag.split("."), el = create(name);
	const attrs = children[0]?.constructor === Object ? children.shift() : {};
	setAttr(el, "class", classes.join(" ") || null);
	for (const name in attrs) setAttr(el, name, attrs[name]);
	el.append(...children.flat(9).filter((child) => child != null && child !== false && child !== ""));
	return el;
};

/** `h("p.muted", { title }, "text", …)`; null and false among the children are skipped, lists flattened. */
export const h = builder((name) => document.createElement(name));
export const svg = builder((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
export const panel = (title, ...content) => h("section.panel", h("h3", title), content);

/** The text of a node, or of an element that holds nothing else. The node stays, and so does a selection. */
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

/** Makes the rows `{el}` of `ids` the container's children, in order. A row is made once, and keeps its focus. */
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
export function act(container, acts) {
	container.addEventListener("click", (event) => {
		const el = event.target.closest("[data-act]");
		if (el && container.contains(el)) acts[el.dataset.act]?.(el, event);
	});
}
