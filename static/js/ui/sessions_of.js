// @ts-check
/** The newest sessions of an account or a client key, and the way to all of them. */
import { h, panel, setText } from "../dom.js";
import { filler } from "./sheet.js";

/** To show thousands would keep the browser busy at each change of one. */
const MOST = 20;

/** @import { App, Session } from "../types.js" */
/** @import { Line } from "./sheet.js" */

/**
 * `none` is what to say without sessions.
 * @param {App} app
 * @param {"account_id" | "token_id"} field what holds the id
 * @param {string} id
 * @param {{title: string, none: string, text: (session: Session) => string}} about
 */
export function sessionsOf({ t, store, clock }, field, id, { title, none, text }) {
	const ul = h("ul.list");
	const note = h("p.muted");
	const all = h("a", { href: `#/sessions?q=${id}`, hidden: true });
	const fill = filler(ul, () => h("li", h("time"), h("span")));
	return {
		el: panel(title, note, ul, all),
		patch() {
			const mine = [...store.items("sessions").values()].filter((session) => session[field] === id)
				.sort((a, b) => (a.created_at < b.created_at ? -1 : 1));
			fill(mine.slice(-MOST).reverse().map((session) => /** @type {Line} */ (
				[session.id, [clock(session.last_seen_at, { zone: false }), text(session)]])));
			setText(note, mine.length ? "" : none);
			setText(all, t("all_sessions", { n: mine.length }));
			all.hidden = mine.length <= MOST;
		},
	};
}
