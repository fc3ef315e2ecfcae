// @ts-check
/** Asks the server which account a request would get, and shows why that one, and why no other. */
import { api } from "../api.js"; // the app's sends no POST while the feed is lost, but this one changes nothing
import { h, sheet } from "../dom.js";
import { timed } from "../format.js";
import { dialog, field, typed } from "../ui/dialog.js";

const MESSAGES = "/v1/messages";
const SESSION = "x-claude-code-session-id";
/** The most client keys that the server lists at once. */
const MOST_KEYS = 1000;

/** @import { App, ClientKey, Explained, Explanation, TextKey } from "../types.js" */
/** @import { Line } from "../dom.js" */

/**
 * @param {App} app
 * @param {string} [id] the account that it is asked about: it comes first after the chosen one
 */
export function explain(app, id) {
	const { t } = app;
	const form = formOf(app);
	const answer = answerOf(app, id);
	const keys = fill(form.key).catch(({ message }) => form.path.tell(message));
	const run = async () => {
		await keys; // or the question would be without the one that is shown
		answer.fill(await api("POST", "api/admin/explain", form.question()));
	};
	dialog(app).show(t("why_account"), [form.content, answer.el],
		[{ label: t("close") }, { label: t("explain"), kind: "primary", run }], form.path);
}

/** Offers the keys that a client may send. @param {HTMLSelectElement} select */
async function fill(select) {
	/** @type {{tokens: ClientKey[]}} */
	const { tokens } = await api("GET", `api/tokens?status=active&limit=${MOST_KEYS}`);
	select.append(...tokens.map(({ id, name }) => h("option", { value: id }, name)));
}

/** @param {App} app */
function formOf({ t }) {
	const key = h("select");
	const path = field(t("x_path"), { value: MESSAGES, required: true });
	const session = field(t("x_session"), {}, t("x_session_hint"));
	const body = field(t("x_body"), { rows: 4, spellcheck: "false" }, t("x_body_hint"), "textarea");

	function question() {
		const text = typed(body);
		const sent = text || typed(path) === MESSAGES;
		return {
			path: typed(path),
			...(key.value && { token_id: key.value }),
			...(sent && { method: "POST" }),
			...(text && { body: text }),
			...(typed(session) && { headers: { [SESSION]: typed(session) } }),
		};
	}
	return {
		key,
		path,
		question,
		content: [h("label.field", t("client_key"), key), path.el,
			h("details", h("summary", t("x_more")), session.el, body.el)],
	};
}

/**
 * @param {App} app
 * @param {string | undefined} id
 */
function answerOf(app, id) {
	const verdict = h("p", { role: "status" });
	const table = sheet(app.t("x_verdicts"), [app.t("name"), app.t("x_verdict")]);
	table.el.classList.add("verdicts");
	return {
		el: [verdict, table.el],
		/** @param {Explained} explained */
		fill(explained) {
			verdict.textContent = summary(app, explained);
			/** @param {Explanation} each */
			const rank = (each) => (each.verdict === "chosen" ? 0 : each.id === id ? 1 : 2);
			const accounts = [...explained.accounts].sort((a, b) => rank(a) - rank(b));
			table.fill(accounts.map((each) => /** @type {Line} */ (
				[each.id, [each.name, sentence(app, each, explained)]])));
		},
	};
}

/**
 * @param {App} app
 * @param {Explained} explained
 */
function summary({ t, clock }, { account, why, error }) {
	if (error) return timed(t("x_none", error), clock);
	return account ? t("x_account", account) : t(/** @type {TextKey} */ (`y_${why}`));
}

/**
 * Why the account gets the request or does not.
 * @param {App} app
 * @param {Explanation} each
 * @param {Explained} explained
 */
function sentence(app, { id, verdict, until, reason }, { why, held_by, before }) {
	const { t } = app;
	const because = reason ? `: ${timed(reason, app.clock)}` : "";
	if (verdict === "chosen") {
		const moves = (why === "conversation" || why === "session") && before && before.id !== id;
		return moves ? t("y_moves", before) : t(/** @type {TextKey} */ (`y_${why}`), { id: held_by && ` (${held_by})` });
	}
	const left = until ? t("v_until", { in: app.until(until, "resetting") }) : "";
	return t(/** @type {TextKey} */ (`v_${verdict}`), { because, left });
}
