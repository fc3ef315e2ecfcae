/** A live table over a topic of the store: search, chips, sort, pages.
 *
 * A row is made once, then patched. The order is calm: it changes every 5 s at most, and under the pointer or the
 * focus only when asked to. The style sheet has the widths: `.<topic>{--cols:…}`. */
import { act, h, keyed, setAttr, setText } from "../dom.js";

const PAGE = 100;
const CALM_MS = 5000;
const WRITES = { "data-write": true };

const cell = (tag, attrs, { key, cls = "" }, ...content) =>
	h(tag, { ...attrs, class: `c-${key} ${cls}` }, content);
const head = (column, content) => cell("th", { role: "columnheader", scope: "col" }, column, content);
const data = (column, ...content) => cell("td", { role: "cell" }, column, ...content);

/** A column is {key, cls, text(item) or cell(td) for a patch(item), sort(item), title(item)}. Acts are called by
 * the key of their label; `chips` are texts by status. */
export function table(app, spec) {
	const { store, t } = app, { topic, columns, chips, empty } = spec;
	const items = store.items(topic), rows = new Map();
	const asked = () => ({ q: "", sort: "", status: "", p: 1, ...Object.fromEntries(app.query()) });
	let view = asked(), order = [], seen = new Map(), moved = 0, awaited, acting;

	const button = (name, attrs, label = t(name)) => h("button", { "data-act": name, ...attrs }, label);
	const tickbox = (label) => h("input", { type: "checkbox", "aria-label": label });
	const search = h("input", { type: "search", value: view.q, placeholder: t("search"),
		"aria-label": t("search_in", { what: t(topic) }) });
	const options = Object.entries({ "": t("all"), ...chips }).map(([value, label]) =>
		button("chip", { value }, [label, " ", h("small")]));
	const offer = button("new_order", { class: "offer", hidden: true });
	const all = tickbox(t("select_page")), body = h("tbody", { role: "rowgroup" });
	const heads = columns.map(({ key, cls, sort }) =>
		head({ key, cls }, sort ? button("sort", { value: key }, t(key)) : t(key)));
	const grid = h(`table.grid.${topic}`, { role: "table" }, h("caption.sr", t(topic)),
		h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, spec.bulk && head({ key: "pick" }, all), heads,
			head({ key: "acts", cls: "sr" }, t("actions")))), body);
	const note = h("div.note");
	const range = h("span"), previous = button("previous"), next = button("next");
	const pager = h("nav.pager", { "aria-label": t("pages") }, previous, range, next);
	const el = h("div", h("div.toolbar", search,
		chips && h("div.chips", { role: "group", "aria-label": t("status") }, options),
		button("export"), empty.makes && button(empty.act, { class: "primary", ...WRITES })),
	offer, grid, note, pager);

	const shows = (item) => (!view.status || item.status === view.status) &&
		(!view.q || spec.search(item).toLowerCase().includes(view.q.toLowerCase()));
	/** Where an item is shown and counted. */
	const look = (item) => item && `${item.status} ${shows(item)}`;

	/** Applies the filter; the order too, if `anew` or where that disturbs nobody. */
	function arrange(anew = !order.length) {
		const by = columns.find(({ key }) => key === view.sort.replace("-", ""))?.sort;
		const way = view.sort[0] === "-" ? -1 : 1, now = performance.now();
		const wanted = [...items].filter(([, item]) => shows(item)).sort(([, a], [, b]) => {
			const x = by?.(a), y = by?.(b);
			return Number(x == null) - Number(y == null) || (x < y ? -way : x > y ? way : spec.order(a, b));
		}).map(([id]) => id);
		const held = grid.matches(":hover,:focus-within") || document.querySelector("[role=menu]");
		if (anew || (!held && now - moved >= CALM_MS)) {
			order = wanted;
			moved = now;
		} else {
			const still = new Set(wanted), had = new Set(order);
			order = order.filter((id) => still.has(id));
			wanted.forEach((id, at) => had.has(id) || order.splice(order.indexOf(wanted[at - 1]) + 1, 0, id));
		}
		offer.hidden = !held || order.every((id, at) => id === wanted[at]);
		seen = new Map([...items].map(([id, item]) => [id, look(item)]));
		draw();
	}

	function draw() {
		const pages = Math.ceil(order.length / PAGE) || 1, ready = store.ready(topic);
		view.p = Math.min(view.p, pages) || 1;
		const from = (view.p - 1) * PAGE, ids = order.slice(from, from + PAGE);
		const bone = () => h("tr.bone");
		if (!rows.size) body.replaceChildren(...Array.from({ length: ready ? 0 : 8 }, bone));
		keyed(body, ids, rows, make);
		if (!body.querySelector("[tabindex='0']")) rows.get(ids[0])?.el.setAttribute("tabindex", "0");
		setText(range, t("range", { from: from + 1, to: from + ids.length, n: order.length }));
		pager.hidden = pages < 2;
		previous.disabled = view.p === 1;
		next.disabled = view.p === pages;
		const ways = { [view.sort]: "ascending", [view.sort.slice(1)]: "descending" };
		heads.forEach((th, at) => setAttr(th, "aria-sort", ways[columns[at].key]));
		for (const chip of options) {
			const n = [...items.values()].filter(({ status }) => !chip.value || status === chip.value).length;
			setText(chip.lastChild, String(n));
			setAttr(chip, "aria-pressed", String(chip.value === view.status));
		}
		note.hidden = ready ? order.length > 0 : !app.live.lostAt;
		if (!note.hidden) explain(ready);
		acting?.pick();
		if (rows.has(awaited)) rows.get(awaited).el.focus(), (awaited = null);
	}

	/** Says why there are no rows. */
	function explain(ready) {
		const filters = [view.q && `'${view.q}'`, view.status && `${t("status")} ${chips?.[view.status]}`];
		const none = t("no_match", { noun: spec.noun, filters: filters.filter(Boolean).join(t("and")) });
		const { text, act: name, makes } = !ready ? { text: t("not_loaded"), act: "retry" }
			: items.size ? { text: none, act: "clear_filters" } : empty;
		if (note.firstChild?.textContent === text) return;
		note.replaceChildren(h("p", { role: "status" }, text), button(name, makes && WRITES));
	}

	function make(id) {
		const box = tickbox(), main = button("run", WRITES, "");
		const more = button("menu", { class: "icon", "aria-haspopup": "menu", ...WRITES }, "⋯");
		const writes = [], cells = columns.map((column, at) => {
			const td = at ? data(column) : cell("th", { role: "rowheader", scope: "row" }, column);
			const { key, text, title } = column;
			setAttr(td, "data-label", t(key));
			writes.push(column.cell?.(td) ?? ((item) => setText(td, text(item) ?? "")));
			if (title) writes.push((item) => setAttr(td, "title", title(item)));
			return td;
		});
		const el = h("tr", { role: "row", "data-id": id, tabindex: -1 },
			spec.bulk && data({ key: "pick" }, h("label", box)), cells, data({ key: "acts" }, main, more));
		function patch() {
			const item = items.get(id);
			if (!item) return;
			for (const write of writes) write(item);
			const name = item.name ?? id.slice(0, 8), first = spec.primary(item);
			setAttr(box, "aria-label", t("select", { name }));
			setAttr(more, "aria-label", t("actions_for", { name }));
			setAttr(main, "hidden", !first);
			setAttr(main, "value", first);
			setText(main, first ? t(first) : "");
		}
		patch();
		return { el, box, more, patch };
	}

	function show(change) {
		app.setQuery(change);
		view = asked();
		arrange(true);
	}

	/** Ends the selection: nothing unseen is ever acted on. */
	function filter(change) {
		acting?.clear();
		show({ p: "", ...change });
	}

	function turn(by) {
		show({ p: view.p + by });
		grid.scrollIntoView();
	}

	/** What is done to rows is loaded when somebody begins to. */
	async function then(name, ...args) {
		const module = acting || await import("./acting.js"); // here already, a key does not wait
		acting ??= module.acting(app, spec, { grid, body, rows, all });
		acting[name](...args);
	}

	act(el, {
		chip: ({ value }) => filter({ status: value }),
		sort: ({ value }) => show({ sort: view.sort === value ? `-${value}` : value }),
		new_order: () => arrange(true),
		previous: () => turn(-1),
		next: () => turn(1),
		clear_filters: () => (filter({ q: (search.value = ""), status: "" }), search.focus()),
		retry: () => app.live.retry(),
		run: (source) => then("run", source),
		menu: (source) => then("menu", source),
		export: async (source) => (await import("./export.js"))
			.offer(app, source, topic, spec.fields, order.map((id) => items.get(id))),
		[empty.act]: () => spec.act(empty.act, []),
	});
	search.oninput = () => filter({ q: search.value.trim() });
	grid.onchange = ({ target }) => then("check", target, target.checked);
	body.onkeydown = (event) => {
		const { key, target } = event, off = !key[1] && app.settings.get("shortcuts") === "off";
		if (off || !/^(Arrow(Up|Down)|Enter|[jkx.])$/.test(key) || event.ctrlKey || event.metaKey || event.altKey
			|| (key === "Enter" && !target.dataset.id)) return;
		event.preventDefault();
		then("key", key, target);
	};

	return {
		el,
		patch(dirty) {
			let other = !order.length;
			for (const id of dirty.get(topic) ?? []) {
				other ||= look(items.get(id)) !== seen.get(id);
				rows.get(id)?.patch();
			}
			if (other) arrange();
		},
		tick() {
			for (const row of rows.values()) row.patch();
			if (performance.now() - moved > CALM_MS) arrange();
		},
		/** Moves the focus to a row, now or when it comes. */
		focusRow(id) {
			awaited = id;
			view.p = Math.floor(order.indexOf(id) / PAGE) + 1 || view.p;
			draw();
		},
	};
}
