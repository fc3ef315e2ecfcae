// @ts-check
/** The instances that share one store, as a panel: it is hidden where there is no such store. */
import { h, panel } from "../dom.js";
import { number, share } from "../format.js";
import { sheet } from "../ui/sheet.js";

/** @import { App, Instance } from "../types.js" */

/** @param {App} app */
export function instancesPanel({ t, store, clock, ago }) {
	const heads = [t("i_instance"), t("i_at"), t("s_version"), t("s_started"), t("i_rate"), t("i_streams"), t("i_cpu"),
		t("i_lag"), t("i_seen")];
	const table = sheet(t("i_title"), heads);
	const el = panel(t("i_title"), h("p.muted", t("i_about")), table.el);
	el.hidden = true;

	/** @param {Instance} one */
	const texts = (one) => [
		one.draining ? t("i_draining", { id: one.id }) : one.id,
		t("i_place", { host: one.host, port: one.port ?? "–", pid: one.pid }),
		one.version,
		clock(one.started_at),
		String(one.requests_per_s),
		number(one.streams),
		share(one.cpu),
		one.lag_ms === null ? "–" : t("i_ms", { n: one.lag_ms }),
		ago(one.last_seen_at),
	];
	return {
		el,
		tick() {
			const all = [...store.items("instances").values()].sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
			el.hidden = !all.length;
			table.fill(all.map((one) => [one.id, texts(one)]));
		},
	};
}
