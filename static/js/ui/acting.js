/** What is done to the rows of a table: selection, bulk actions, menus, keys. */
import { h, setAttr, setText } from "../dom.js";
import { busy, press } from "./dialog.js";
import { menu } from "./menu.js";

export function acting(app, spec, { grid, body, rows, all }) {
	const { t, store } = app, items = store.items(spec.topic), selected = new Set(), count = h("b");
	const choice = (value) => ({ value, label: t(value), class: /delete|revoke/.test(value) && "danger" });
	const bulk = h("div.bulk.row", count, spec.bulk?.map((name) =>
		press({ ...choice(name), "data-write": true, run: () => spec.act(name, [...selected]) })),
	press({ label: t("clear_selection"), run: () => (self.clear(), all.focus()) }));
	grid.before(bulk);
	const rowOf = (node) => node.closest("[data-id]");
	const idOf = (node) => rowOf(node).dataset.id;

	/** Only one row is a stop of the Tab key. */
	function rove(tr) {
		body.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
		tr?.setAttribute("tabindex", "0");
	}

	const self = {
		/** Shows the selection; what is gone is out of it. */
		pick() {
			let here = 0;
			for (const id of selected) if (!items.has(id)) selected.delete(id);
			for (const [id, { el, box }] of rows) {
				here += Number(box.checked = selected.has(id));
				setAttr(el, "data-selected", box.checked);
			}
			all.checked = here > 0 && here === rows.size;
			all.indeterminate = here > 0 && !all.checked;
			bulk.hidden = !selected.size;
			setText(count, t("selected", { n: selected.size }));
		},
		clear() {
			selected.clear();
			self.pick();
		},
		check(box, on) {
			for (const id of box === all ? rows.keys() : [idOf(box)]) on ? selected.add(id) : selected.delete(id);
			self.pick();
		},
		run: (source) => busy(source, () => spec.act(source.value, [idOf(source)])),
		async menu(source) {
			const id = idOf(source), chosen = await menu(source, spec.menu(items.get(id)).map(choice));
			if (chosen) busy(source, () => spec.act(chosen, [id]));
		},
		key(key, target) {
			const tr = rowOf(target), { id } = tr.dataset, { box, more } = rows.get(id);
			if (key === "ArrowDown" || key === "j") tr.nextElementSibling?.focus();
			else if (key === "ArrowUp" || key === "k") tr.previousElementSibling?.focus();
			else if (key === "Enter") spec.act("open", [id]);
			else if (key === "x" && spec.bulk) self.check(box, !box.checked);
			else if (key === ".") self.menu(more);
		},
	};
	body.addEventListener("focusin", ({ target }) => rove(rowOf(target)));
	if (body.contains(document.activeElement)) rove(rowOf(document.activeElement));
	self.pick();
	return self;
}
