// @ts-check
/** What a client key has used of its limits: a bar for each, and the fullest one in the table. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { compact, money, ms, number } from "../format.js";
import { bar, levelOf, perCent, wordsOf } from "./quota.js";

/** @import { App, ClientKey, Meter } from "../types.js" */
/** @import { Column } from "./table.js" */

/** How amounts of it read, by the limit. @param {Meter} meter @returns {(n: number) => string} */
const unit = ({ limit }) => {
	if (limit.startsWith("cost")) return money;
	return limit.startsWith("tokens") ? compact : number;
};

/** @param {Meter} meter @param {number} now */
const isReset = ({ resets_at: at }, now) => at !== null && ms(at) <= now;

/**
 * The part of it that is used, with what is held for requests in flight.
 * @param {Meter} meter
 * @param {number} now
 */
export const partOf = (meter, now) => (isReset(meter, now) ? 0 : (meter.used + meter.reserved) / meter.most);

/**
 * The limit that is reached first, and the part of it that is used; null without limits.
 * @param {ClientKey} token
 * @param {number} now
 */
export function fullest({ meters }, now) {
	/** @type {{meter: Meter, part: number} | null} */
	let found = null;
	for (const meter of meters) {
		const part = partOf(meter, now);
		if (part > (found?.part ?? -1)) found = { meter, part };
	}
	return found;
}

/**
 * "48 of 60"
 * @param {Meter} meter
 * @param {App} app
 */
function amounts(meter, { t, now }) {
	const text = unit(meter);
	return t("k_of", { used: text(isReset(meter, now()) ? 0 : meter.used), most: text(meter.most) });
}

/**
 * When it is free again, or "".
 * @param {Meter} meter
 * @param {App} app
 */
function resets(meter, { t, now, due }) {
	const { resets_at: at, used, reserved } = meter;
	if (at === null || isReset(meter, now()) || !(used + reserved)) return "";
	return t("q_resets", { due: due(at) });
}

/**
 * A bar with its texts for each limit.
 * @param {App} app
 * @param {() => void} change is called to change them
 */
export function metersOf(app, change) {
	const { t, now } = app;
	const ul = h("ul.list.windows");
	const none = h("p.muted");
	const edit = h("button", { type: "button", "data-write": true }, t("k_edit_limits"));
	edit.onclick = change;
	/** @type {Map<string, ReturnType<typeof make>>} */
	const rows = new Map();

	function make() {
		const meter = bar();
		const [name, much, more] = [h("b"), h("span"), h("small")];
		return { el: h("li", name, much, meter.el, more), name, much, more, meter };
	}

	/** @param {Meter} meter */
	function draw(meter) {
		const row = /** @type {ReturnType<typeof make>} */ (rows.get(meter.limit));
		const part = partOf(meter, now());
		const held = meter.reserved > 0 && t("k_held", { n: unit(meter)(meter.reserved) });
		setText(row.name, t(meter.limit));
		setText(row.much, `${amounts(meter, app)} · ${wordsOf(part, t)}`);
		setAttr(row.much, "data-kind", levelOf(part)?.kind);
		setText(row.more, [resets(meter, app), held].filter(Boolean).join(" · "));
		row.meter.patch(part);
	}

	return {
		el: panel(t("k_limits"), ul, none, edit),
		/** @param {ClientKey} token */
		patch({ meters, limits, declared, status }) {
			// Not the fullest first: they would change places.
			keyed(ul, Object.keys(limits).filter((name) => limits[name] !== null), rows, make);
			meters.forEach(draw);
			setText(none, meters.length ? "" : t("k_no_limits"));
			edit.hidden = declared || status === "revoked";
		},
	};
}

/**
 * The column of the fullest limit.
 * @param {App} app
 * @returns {Column<ClientKey>}
 */
export function limitColumn(app) {
	const { t, now } = app;
	return {
		key: "k_fullest",
		sort: (token) => fullest(token, now())?.part,
		cell(td) {
			const meter = bar();
			const much = h("b");
			const more = h("small");
			td.append(h("span.two", h("span.row", meter.el, much), more));
			return (token) => {
				const most = fullest(token, now());
				const name = most ? t(most.meter.limit) : "";
				const details = most && [amounts(most.meter, app), resets(most.meter, app)].filter(Boolean).join(", ");
				setText(much, most ? perCent(most.part) : "–");
				setText(more, name);
				setAttr(td, "title", details && `${name}: ${details}`);
				meter.patch(most?.part ?? null);
				setAttr(meter.el, "hidden", !most);
			};
		},
	};
}
