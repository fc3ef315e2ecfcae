// @ts-check
/** Adds an account, by an API key or a login, or authorises one anew: a dialog in steps. */
import { h, setText } from "../dom.js";
import { duration, ms } from "../format.js";
import { mistake } from "../pasted.js";
import { confirm, dialog, field, press, typed } from "../ui/dialog.js";
import { copy } from "./connect.js";

/** So that a token of 8 h is said to expire in "8h 00m", not in 7h 59m. */
const ROUND_UP_MS = 30_000;
const TICK_MS = 1000;

/** @import { Failure } from "../api.js" */
/** @import { Child } from "../dom.js" */
/** @import { Button, Choice } from "../ui/dialog.js" */
/** @import { Account, App, LaterText } from "../types.js" */

/**
 * A login that has begun; `told` is what became of it, as far as it was shown.
 * @typedef {{flow_id: string, state: string, authorization_url: string, expires_at: string, host: string, told: string}} Flow
 *
 * @typedef {Pick<Failure, "type" | "message" | "details">} Refusal
 * @typedef {"choose" | "authorise" | "done"} StepName
 * @typedef {{content: (wizard: Wizard) => Child, choices: (wizard: Wizard) => Choice[]}} Step
 */

/** After these refusals only another link leads on. */
const OVER = ["access_denied", "authorization_refused"];

/** The steps that each way takes. @type {Record<"key" | "login" | "again", StepName[]>} */
const WAYS = {
	key: ["choose", "done"],
	login: ["choose", "authorise", "done"],
	again: ["authorise", "done"],
};

/** @type {Record<StepName, Step>} */
const STEPS = {
	choose: {
		content: (wizard) => [kinds(wizard), wizard.name.el, !wizard.oauth && wizard.key.el],
		choices: (wizard) => [cancel(wizard), wizard.oauth
			? { label: wizard.t("get_authorization_link"), kind: "primary", run: () => wizard.link() }
			: { label: wizard.t("add_account"), kind: "primary", run: () => wizard.addKey() }],
	},
	authorise: {
		content: (wizard) => (wizard.flow ? authorisation(wizard, wizard.flow) : wizard.paste.el),
		choices: (wizard) => (wizard.flow
			? [cancel(wizard), { label: wizard.t("finish"), kind: "primary", run: () => wizard.finish() }]
			: [cancel(wizard)]),
	},
	done: {
		content: (wizard) => h("p", { role: "status" }, summary(wizard)),
		choices: ({ t, id, account }) => [
			...(id ? [] : [{ label: t("add_another"), value: "another" }]),
			{ label: t("close"), kind: "primary", value: account?.id },
		],
	},
};

/**
 * What helps against a refusal, by its type.
 * @type {Record<string, (wizard: Wizard, refusal: Refusal) => Button | null>}
 */
const REMEDIES = {
	access_denied: anotherLink,
	authorization_refused: anotherLink,
	flow_expired: anotherLink,
	invalid_grant: anotherLink,
	upstream_unreachable(wizard) {
		if (wizard.way() === WAYS.key) return { label: wizard.t("w_unchecked"), run: () => wizard.addKey(false) };
		return wizard.mistake() ? null : { label: wizard.t("try_again"), run: () => wizard.finish() };
	},
	duplicate_org: (wizard, { details }) => {
		const other = wizard.accounts.get(details?.account_id);
		if (!other) return null;
		return { label: wizard.t("w_instead", other), run: () => wizard.reauthorise(other.id) };
	},
};

/**
 * Resolves with the id of the account, or ""; `id` is that of one to authorise anew.
 * @param {App} app
 * @param {string} [id]
 * @returns {Promise<string>}
 */
export async function wizard(app, id) {
	const opened = new Wizard(app, id);
	const timer = setInterval(() => opened.tick(), TICK_MS);
	opened.show(id ? "authorise" : "choose");
	if (id) await opened.link();
	const done = await opened.box.closed;
	clearInterval(timer);
	return done === "another" ? wizard(app) : done;
}

class Wizard {
	/**
	 * @param {App} app
	 * @param {string} [id] of the account to authorise anew
	 */
	constructor(app, id) {
		const { t, store } = app;
		this.app = app;
		this.id = id;
		this.t = t;
		this.accounts = store.items("accounts");
		this.name = field(t("name"), { maxlength: 64 }, t("w_optional"));
		this.key = field(t("api_key"), { type: "password" });
		this.paste = field(t("w_paste"), { spellcheck: "false" });
		this.paste.input.oninput = () => this.paste.tell(this.paste.input.value && this.mistake());
		this.left = h("p.muted");
		this.oauth = Boolean(id);
		/** The login that is waited for. @type {Flow | null} */
		this.flow = null;
		/** What is shown only while it is waited for. @type {HTMLElement[]} */
		this.whileOpen = [];
		/** The refusal that was shown last. */
		this.told = "";
		/** The account that came of it. @type {Account | null} */
		this.account = null;
		this.box = dialog(app, { topic: "accounts", id, guard: () => this.leaves() });
		store.watch(() => this.watchFlow(), this.box.life.signal);
	}

	leaves() {
		const { app, t } = this;
		if (!this.flow || app.live.state === "signed-out") return true;
		return confirm(app, { title: t("w_leave"), text: t("w_lost"), label: t("stop") });
	}

	way() {
		if (this.id) return WAYS.again;
		return this.oauth ? WAYS.login : WAYS.key;
	}

	/** @param {StepName} name */
	show(name) {
		const way = this.way();
		const at = { step: way.indexOf(name) + 1, of: way.length };
		const title = this.id
			? this.t("w_again", { ...this.accounts.get(this.id), ...at })
			: this.t("w_title", at);
		this.box.show(title, STEPS[name].content(this), STEPS[name].choices(this));
	}

	addKey(verify = true) {
		const name = typed(this.name);
		const api_key = typed(this.key);
		if (!name || !api_key) return (name ? this.key : this.name).fail(this.t("w_needed"));
		return this.post("api/accounts", { name, type: "api_key", api_key, verify });
	}

	/** Begins a login; one before is of no use any more. */
	link() {
		const query = new URLSearchParams(this.id ? { account_id: this.id } : { name: this.name.input.value });
		return this.app.api("GET", `oauth/authorize?${query}`).then((begun) => this.authorise(begun), this.failed);
	}

	/** @param {Omit<Flow, "host" | "told">} begun */
	authorise(begun) {
		this.flow = { ...begun, host: new URL(begun.authorization_url).host, told: "" };
		this.told = "";
		this.show("authorise");
		this.paste.tell();
		this.tick();
	}

	finish() {
		const wrong = this.mistake();
		if (wrong) return this.paste.fail(wrong, ...(this.isCancelled() ? [anotherLink(this)] : []));
		const body = { code: this.paste.input.value, state: this.flow?.state, name: typed(this.name) || null };
		return this.post(this.id ? `api/accounts/${this.id}/reauthorize` : "oauth/exchange", body);
	}

	/** Goes on with the account that is there already. @param {string} id */
	reauthorise(id) {
		this.id = id;
		return this.mistake() ? this.link() : this.finish();
	}

	/** Whether what was pasted says that the login was cancelled: only another link leads on. */
	isCancelled() {
		return mistake(this.paste.input.value, this.flow?.state) === "access_denied";
	}

	/** What is wrong with what was pasted, or "". */
	mistake() {
		const found = mistake(this.paste.input.value, this.flow?.state);
		return found ? this.t(`e_${found}`, { ...this.flow }) : "";
	}

	/**
	 * @param {string} path
	 * @param {object} body
	 */
	post(path, body) {
		return this.app.api("POST", path, body).then(({ account }) => this.finished(account), this.failed);
	}

	/** @param {Account} account */
	finished(account) {
		this.account = account;
		this.flow = null;
		this.show("done");
	}

	/** Shows what the server refused at the field that it is about, with a way on. */
	failed = (/** @type {Refusal} */ refusal) => {
		const { type, message } = refusal;
		const remedy = REMEDIES[type]?.(this, refusal);
		const fields = [this.paste, this.key, this.name];
		const shown = fields.find(({ el }) => el.isConnected) ?? this.paste;
		const at = type === "name_taken" || message.startsWith("name:") ? this.name : shown;
		if (!at.el.isConnected) this.paste.el.before(at.el);
		for (const field of fields) field.tell();
		if (remedy && OVER.includes(type)) this.end();
		this.told = message;
		const text = type === "access_denied" ? this.t("e_access_denied", { ...this.flow }) : message;
		at.fail(text, ...(remedy ? [remedy] : []));
	};

	/** The login is over: its link is of no use any more. */
	end() {
		for (const el of this.whileOpen) el.hidden = true;
	}

	/** The login may be finished, or fail, by the way back alone. */
	watchFlow() {
		const mine = this.flow;
		const flow = mine && this.app.store.items("flows").get(mine.flow_id);
		if (!flow) return;
		const account = this.accounts.get(flow.account_id ?? "");
		if (flow.status === "done" && account) this.finished(account);
		const { error_type: type = "", error_message: message } = flow;
		if (!message || message === mine.told) return;
		mine.told = message;
		if (this.told.startsWith(message)) return; // it was the answer to what was pasted
		this.failed({ type, message, details: { ...flow, type, message } });
	}

	tick() {
		if (!this.flow) return;
		const left_ms = Math.max(0, ms(this.flow.expires_at) - this.app.now());
		setText(this.left, left_ms ? this.t("w_left", { left: minutes(left_ms) }) : this.t("e_flow_expired"));
	}
}

/** "9:59" @param {number} span_ms */
const minutes = (span_ms) => new Date(span_ms).toISOString().slice(14, 19).replace(/^0/, "");

/** @param {Wizard} wizard @returns {Choice} */
const cancel = ({ t }) => ({ label: t("cancel") });

/** @param {Wizard} wizard @returns {Button} */
function anotherLink(wizard) {
	return { label: wizard.t("get_a_new_link"), run: () => wizard.link() };
}

/** The choice between a key and a login. @param {Wizard} wizard */
function kinds(wizard) {
	const { t, oauth } = wizard;
	/** @type {(label: LaterText, on: boolean) => HTMLElement} */
	const radio = (label, on) =>
		h("label", h("input", { type: "radio", name: "kind", checked: on, autofocus: on }), t(label));
	const el = h("div", { role: "radiogroup", "aria-label": t("w_how") },
		radio("w_api_key", !oauth), radio("w_oauth", oauth));
	el.onchange = () => {
		wizard.oauth = !oauth;
		wizard.show("choose");
	};
	return el;
}

/**
 * The link to follow, and the field for what comes of it.
 * @param {Wizard} wizard
 * @param {Flow} flow
 */
function authorisation(wizard, flow) {
	const { t } = wizard;
	const { href, searchParams } = new URL(flow.authorization_url);
	const said = h("p", { role: "status" });
	const take = async () => {
		setText(said, href); // to be selected, if the clipboard is closed
		if (await copy(said)) setText(said, t("link_copied"));
	};
	const returns = searchParams.get("redirect_uri")?.startsWith(location.origin);
	const link = h("div.row",
		h("a.primary", { href, target: "_blank", rel: "noopener", autofocus: true }, t("w_open", flow)),
		press({ label: t("copy_link"), run: take }),
		press({ label: t("new_link"), run: () => wizard.link() }),
		said);
	const waiting = h("p", { role: "status" }, returns && t("w_waiting", flow));
	wizard.whileOpen = [h("p", t("w_sign_in", flow)), link, wizard.left, waiting];
	wizard.left.hidden = false;
	return [wizard.whileOpen, wizard.paste.el];
}

/** What came of it, in a line. @param {Wizard} wizard */
function summary({ app, t, id, account }) {
	if (!account) return "";
	const { expires_at: at } = account;
	const facts = [
		t(id ? "w_renewed" : "w_added", account),
		account.organization_name && t("w_org", account),
		at && t("w_expires", { left: duration(ms(at) - app.now() + ROUND_UP_MS) }),
	];
	return facts.filter(Boolean).join(" · ");
}
