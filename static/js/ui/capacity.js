// @ts-check
/** How much quota the accounts have left together, how long that lasts, who is limited and what is reset next. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { ms } from "../format.js";
import { bar, levelOf, nameOf, nextLimited, perCent } from "./quota.js";

/** @import { App, Capacity, Reset } from "../types.js" */

/** @param {App} app */
export function capacityPanel(app) {
	const { store, t, now, due } = app;
	const left = h("b", "–");
	const of = h("span.muted");
	const meter = bar();
	const pace = h("p");
	const [who, first] = [h("a"), h("span")];
	const limited = h("p", who, " ", first);
	const next = h("ul.list");
	/** @type {Map<string, ReturnType<typeof make>>} */
	const rows = new Map();

	function make() {
		const [link, text] = [h("a"), h("span")];
		return { el: h("li", link, " ", text), link, text };
	}

	function drawLimited() {
		const found = nextLimited(store.items("accounts").values(), now());
		setAttr(who, "href", found && `#/accounts/${found.account.id}`);
		setText(who, found?.account.name ?? "");
		setText(first, found ? t("c_limited", { window: nameOf(found.window, t), due: due(found.at) }) : t("c_unlimited"));
	}

	/** @param {Reset[]} resets */
	function drawResets(resets) {
		const ahead = resets.filter(({ at }) => ms(at) > now());
		keyed(next, ahead.map(({ account_id: id }) => id), rows, make);
		for (const { account_id: id, name, window, at } of ahead) {
			const row = rows.get(id);
			setAttr(row?.link ?? next, "href", `#/accounts/${id}`);
			setText(row?.link ?? null, name);
			setText(row?.text ?? null, t("c_next", { window: nameOf(window, t), due: due(at) }));
		}
	}

	return {
		el: panel(t("capacity"), h("div.capacity", left, meter.el, of), pace, limited, next),
		/** @param {Capacity | undefined} capacity */
		patch(capacity) {
			if (!capacity) return;
			const { left: part, known: n, accounts, empty_at: empty, resets } = capacity;
			const used = part === null ? null : 1 - part;
			setText(left, part === null ? "–" : t("c_left", { left: perCent(part) }));
			setText(of, part === null ? t("c_unknown") : t("c_of", { n, accounts }));
			setText(pace, empty === null ? "" : t("c_empty", { due: due(empty) }));
			setAttr(pace, "data-kind", levelOf(used)?.kind);
			meter.patch(used);
			limited.hidden = part === null;
			drawLimited();
			drawResets(resets);
		},
	};
}
