/** Adds an account, by an API key or a login, or authorises one anew: a dialog in steps. */
import { h, setText } from "../dom.js";
import { duration, ms } from "../format.js";
import { confirm, dialog, field, press } from "../ui/dialog.js";
import { copy } from "./connect.js";

/** Resolves with the id of the account, or ""; `id` is that of one to authorise anew. */
export async function wizard(app, id) {
	const { t, store } = app, accounts = store.items("accounts");
	const name = field(t("name"), { maxlength: 64 }, t("w_optional"));
	const key = field(t("api_key"), { type: "password" });
	const paste = field(t("w_paste"), { spellcheck: "false" });
	const left = h("p.muted"), cancel = { label: t("cancel") };
	/** `flow` is the login that is waited for, `told` what the server said last. */
	let flow = null, oauth = Boolean(id), told = "";
	const box = dialog(app, { topic: "accounts", id, guard: () => !flow ||
		confirm(app, { title: t("w_leave"), text: t("w_lost"), label: t("stop") }) });

	/** Steps count from 1, and from the last one down to 0. */
	function show(step, content, ...buttons) {
		const of = oauth && !id ? 3 : 2, at = { step: step > 0 ? step : of + step, of };
		box.show(t(id ? "w_again" : "w_title", { ...accounts.get(id), ...at }), content, buttons);
	}

	function choose() {
		const radio = (value, on) => h("label",
			h("input", { type: "radio", name: "kind", checked: on, autofocus: on }), t(`w_${value}`));
		const kinds = h("div", { role: "radiogroup", "aria-label": t("w_how") },
			radio("api_key", !oauth), radio("oauth", oauth));
		kinds.onchange = () => ((oauth = !oauth), choose());
		const go = oauth ? { label: t("get_authorization_link"), run: link } : { label: t("add_account"), run: addKey };
		show(1, [kinds, name.el, !oauth && key.el], cancel, { ...go, kind: "primary" });
	}

	/** Shows what the server refused where it was made, with a way on. */
	function failed({ type, message, details }) {
		const other = accounts.get(details?.account_id), anew = { label: t("get_a_new_link"), run: link };
		const help = {
			flow_expired: anew, invalid_grant: anew,
			upstream_unreachable: !wrong() && { label: t("try_again"), run: finish },
			duplicate_org: other && { label: t("w_instead", other), run() {
				id = other.id;
				return wrong() ? link() : finish();
			} },
		}[type];
		const at = type === "name_taken" ? name : [paste, key, name].find(({ el }) => el.isConnected);
		if (!at.el.isConnected) paste.el.before(at.el);
		told = message;
		at.fail(type === "access_denied" ? t("e_access_denied", flow) : message, ...[help].filter(Boolean));
	}

	const post = (path, body) => app.api("POST", path, body).then(result, failed);

	function addKey() {
		const [called, secret] = [name, key].map(({ input }) => input.value.trim());
		if (!called || !secret) return (called ? key : name).fail(t("w_needed"));
		return post("api/accounts", { name: called, type: "api_key", api_key: secret });
	}

	function link() {
		const query = new URLSearchParams(id ? { account_id: id } : { name: name.input.value });
		return app.api("GET", `oauth/authorize?${query}`).then(authorise, failed);
	}

	function authorise(begun) {
		const { host, href, searchParams } = new URL(begun.authorization_url), said = h("p", { role: "status" });
		flow = { ...begun, host };
		const take = async () => {
			setText(said, href);
			if (await copy(said)) setText(said, t("link_copied"));
		};
		const back = searchParams.get("redirect_uri")?.startsWith(location.origin);
		show(-1, [h("p", t("w_sign_in", flow)), h("div.row",
			h("a.primary", { href, target: "_blank", rel: "noopener", autofocus: true }, t("w_open", flow)),
			press({ label: t("copy_link"), run: take }), press({ label: t("new_link"), run: link }), said), left,
		back && h("p", { role: "status" }, t("w_waiting", flow)), paste.el],
		cancel, { label: t("finish"), kind: "primary", run: finish });
		paste.tell();
		tick();
	}

	/** What is wrong with what was pasted: a code, `code#state`, or the address of the way back. */
	function wrong() {
		const pasted = paste.input.value.replace(/\s/g, "");
		const query = /\?([^#]*)/.exec(pasted)?.[1] ?? `code=${pasted.replace("#", "&state=")}`;
		const { code = "", state, error } = Object.fromEntries(new URLSearchParams(query));
		const type = error === "access_denied" ? error : /^\d{6}$/.test(code) ? "six_digits"
			: code.length < 8 ? "code_missing" : state && state !== flow?.state && "state_mismatch";
		return type ? t(`e_${type}`, { ...flow }) : "";
	}

	paste.input.oninput = () => paste.tell(paste.input.value && wrong());

	function finish() {
		const text = wrong();
		if (text) return paste.fail(text);
		const body = { code: paste.input.value, state: flow.state, name: name.input.value.trim() || null };
		return post(id ? `api/accounts/${id}/reauthorize` : "oauth/exchange", body);
	}

	function result({ account }) {
		const facts = [t(id ? "w_renewed" : "w_added", account), account.organization_name && t("w_org", account),
			account.expires_at && t("w_expires", { left: duration(ms(account.expires_at) - app.now() + 30_000) })];
		flow = null;
		show(0, h("p", { role: "status" }, facts.filter(Boolean).join(" · ")),
			...(id ? [] : [{ label: t("add_another"), value: "another" }]),
			{ label: t("close"), kind: "primary", value: account.id });
	}

	function tick() {
		const still = flow && Math.max(0, ms(flow.expires_at) - app.now());
		const clock = new Date(still).toISOString().slice(14, 19).replace(/^0/, "");
		setText(left, still ? t("w_left", { left: clock }) : t("e_flow_expired"));
	}

	store.watch(() => {
		const now = store.items("flows").get(flow?.flow_id), account = accounts.get(now?.account_id);
		if (now?.status === "done" && account) result({ account });
		const { error_type: type, error_message: message } = now ?? {};
		if (message && !told.startsWith(message)) failed({ type, message, details: now });
	}, box.life.signal);
	if (id) {
		show(-1, paste.el, cancel);
		await link();
	} else choose();
	const timer = setInterval(tick, 1000), done = await box.closed;
	clearInterval(timer);
	return done === "another" ? wizard(app) : done;
}
