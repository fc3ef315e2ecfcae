// @ts-check
/** The quota windows of an account: their names in words, and a bar for how much of each is used. */
import { h, setAttr, setText, svg } from "../dom.js";
import { ms } from "../format.js";

/** From these on, as parts of a window, a bar says so, by its colour and in words. */
const LEVELS = /** @type {const} */ ([
	{ from: 1, kind: "error", text: "q_over" },
	{ from: 0.95, kind: "error", text: "q_last" },
	{ from: 0.8, kind: "warn", text: "q_low" },
]);
const WINDOW = /^(\d+)([mhdw])(?:_(\w+))?$/;
/** How long a window of each unit is. @type {Record<string, number>} */
const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
/** Before this part of a window is over, its pace is but a guess. */
const TOO_SOON = 0.05;
const PER_CENT = 100;
/** 29 % is 0.29 * 100 = 28.999999999999996. */
const ROUNDING = 1e-6;

/** @import { Account, App, Quota, TextKey, Translate } from "../types.js" */
/** @import { Column } from "./table.js" */

/**
 * "5 hours", "Opus, 7 days", "Requests per minute"
 * @param {string} window as the server calls it
 * @param {Translate} t
 */
export function nameOf(window, t) {
	const [, n, unit, model] = WINDOW.exec(window) ?? [];
	if (!unit) return t(/** @type {TextKey} */ (`q_${window}`));
	const span = t(/** @type {TextKey} */ (`q_${unit}`), { n: Number(n) });
	if (!model) return span;
	const whose = model === "oi" ? t("q_oi") : `${model[0].toUpperCase()}${model.slice(1)}`;
	return `${whose}, ${span}`;
}

/**
 * The part of it that is used, or null if nothing is known: also after its reset, of which no answer has told yet.
 * @param {Quota} quota
 * @param {number} now
 */
export function usedOf({ used, resets_at: at }, now) {
	return at !== null && ms(at) <= now ? null : used;
}

/**
 * When it will be used up if it goes on as since it began, in ms; null if it is reset before, or if nobody can tell yet.
 * @param {Quota} quota
 * @param {number} now
 */
export function fullAt(quota, now) {
	const [, n, unit] = WINDOW.exec(quota.window) ?? [];
	const used = usedOf(quota, now);
	if (!unit || !used || used >= 1 || quota.resets_at === null) return null;
	const end = ms(quota.resets_at);
	const span = Number(n) * UNIT_MS[unit];
	const gone = now - (end - span);
	const at = now + (gone * (1 - used)) / used;
	return gone >= span * TOO_SOON && at < end ? at : null;
}

/**
 * The account that is limited next if all goes on like this, and by which window.
 * @param {Iterable<Account>} accounts
 * @param {number} now
 */
export function nextLimited(accounts, now) {
	/** @type {{account: Account, window: string, at: number} | null} */
	let next = null;
	for (const account of accounts) {
		if (account.status !== "active") continue;
		for (const quota of account.quota) {
			const at = fullAt(quota, now);
			if (at !== null && at < (next?.at ?? Infinity)) next = { account, window: quota.window, at };
		}
	}
	return next;
}

/** Whether it lasts longer than a minute, so that its reset is worth a word. @param {Quota} quota */
const isLong = ({ window }) => WINDOW.test(window);

/** @param {number | null} used */
export const levelOf = (used) => LEVELS.find(({ from }) => used !== null && used >= from);

/** Never "100 %" before it is all. @param {number} used */
export const perCent = (used) => `${Math.floor(used * PER_CENT + ROUNDING)} %`;

/**
 * The tightest window, and how much of it is used.
 * @param {Account} account
 * @param {number} now
 */
export function tightest({ quota }, now) {
	/** @type {{window: Quota, used: number} | null} */
	let found = null;
	for (const window of quota) {
		const used = usedOf(window, now);
		if (used !== null && used > (found?.used ?? -1)) found = { window, used };
	}
	return found;
}

/** A bar; the text beside it says the same. */
export function bar() {
	const part = svg("rect", { height: 1 });
	const el = svg("svg.meter", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, part);
	return {
		el,
		/** @param {number | null} used */
		patch(used) {
			setAttr(part, "width", Math.min(1, used ?? 0).toFixed(3));
			setAttr(el, "data-kind", levelOf(used)?.kind);
		},
	};
}

/**
 * How much of it is used, with words if that is much.
 * @param {number | null} used
 * @param {Translate} t
 */
export function wordsOf(used, t) {
	if (used === null) return t("q_unknown");
	const level = levelOf(used);
	return level ? `${perCent(used)}, ${t(level.text)}` : perCent(used);
}

/**
 * The column of the tightest window; of an account that rests, when it comes back.
 * @param {App} app
 * @returns {Column<Account>}
 */
export function quotaColumn(app) {
	const { t, now, due } = app;
	return {
		key: "quota",
		sort: (account) => tightest(account, now())?.used,
		filled: (account) => account.rate_limited_until ?? tightest(account, now())?.used,
		cell(td) {
			const meter = bar();
			const much = h("b");
			const more = h("small");
			td.append(h("span.two", h("span.row", meter.el, much), more));
			return (account) => {
				const most = tightest(account, now());
				const back = account.rate_limited_until;
				const resets = back ?? (most && isLong(most.window) ? most.window.resets_at : null);
				const when = resets && ms(resets) > now() && t(back ? "q_back" : "q_resets", { due: due(resets) });
				setText(much, most ? perCent(most.used) : "–");
				const name = most && nameOf(most.window.window, t);
				// What matters most comes first: the end may be cut off.
				setText(more, (back ? [when, name] : [name, when]).filter(Boolean).join(", "));
				setAttr(td, "title", most && `${nameOf(most.window.window, t)}: ${wordsOf(most.used, t)}`);
				meter.patch(most?.used ?? null);
				setAttr(meter.el, "hidden", !most);
			};
		},
	};
}
