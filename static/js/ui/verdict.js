// @ts-check
/** Whether all is well, in a sentence, with a bar of the accounts' states. */
import { otherReasons } from "../attention.js";
import { h, keyed, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { ICON } from "./cells.js";

/** @import { AccountCounts, AccountStatus, App, Health } from "../types.js" */

/** @type {AccountStatus[]} */
const STATES = ["active", "rate_limited", "invalid", "inactive"];

/** The states of all accounts as parts of a bar, each with its number and a link to them. @param {App} app */
function statesOf({ t }) {
	const parts = STATES.map((status) => {
		const part = h("span", { "data-kind": status });
		const count = h("b", "–");
		const link = h("a", { "data-kind": status, href: `#/accounts?status=${status}` },
			h("i", { "aria-hidden": "true" }, ICON[status]), count, t(status));
		return { status, part, count, link };
	});
	const bar = h("div.states", { "aria-hidden": "true" }, parts.map(({ part }) => part));
	return {
		els: [bar, h("ul.row.state-keys", parts.map(({ link }) => h("li", link)))],
		/** @param {AccountCounts} counts */
		patch(counts) {
			for (const { status, part, count, link } of parts) {
				const n = counts[status];
				part.style.flexGrow = String(n);
				part.hidden = !n;
				setText(count, number(n));
				setAttr(link, "data-none", !n);
			}
		},
	};
}

/** @param {App} app */
export function verdictPanel(app) {
	const { t } = app;
	const verdict = h("b", "–");
	const sentence = h("span");
	const reasons = h("ul");
	const states = statesOf(app);
	const seen = h("button", { "data-write": true, hidden: true }, t("findings_seen"));
	seen.onclick = async () => {
		try {
			await app.api("DELETE", "api/admin/findings");
		} catch (error) {
			app.toast({ text: /** @type {Error} */ (error).message, kind: "error" });
		}
	};
	const el = h("section.panel.health", { "aria-label": t("health") }, h("p", verdict, " ", sentence), states.els,
		reasons, seen);
	/** @type {Map<string, {el: HTMLElement}>} */
	const said = new Map();

	/** @param {AccountCounts} counts */
	function serving({ total, active, rate_limited: limited, next_reset_at: at }) {
		if (!total) return t("v_none");
		const serve = active === total ? t("v_all", { n: total }) : t("v_some", { n: active, total });
		return limited && at ? `${serve} ${t("v_back", { due: app.due(at) })}` : serve;
	}

	return {
		el,
		/**
		 * @param {Health} health
		 * @param {AccountCounts} counts
		 */
		patch(health, counts) {
			setAttr(el, "data-kind", health.status);
			setText(verdict, `${t(health.status)}.`);
			setText(sentence, serving(counts));
			states.patch(counts);
			const why = otherReasons(health);
			if (health.draining) why.push(t("draining"));
			if (health.insecure) why.push(t("insecure"));
			seen.hidden = !health.findings;
			keyed(reasons, why, said, (text) => ({ el: h("li", text) }));
		},
	};
}
