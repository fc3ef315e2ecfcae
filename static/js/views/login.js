// @ts-check
/** The login: the admin key, once, for a cookie that no script can read. */
import { h, setAttr, setText } from "../dom.js";

/** @import { Failure } from "../api.js" */
/** @import { App, Mount } from "../types.js" */

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;
	const key = h("input", { id: "key", type: "password", autocomplete: "current-password", required: true,
		"aria-describedby": "trouble", spellcheck: "false" });
	const show = h("button", { type: "button" }, t("show"));
	const trouble = h("p.error", { id: "trouble", tabindex: -1, role: "alert" });
	const submit = h("button.primary", t("sign_in"));
	// For password managers: they keep a key under a name.
	const user = h("input", { autocomplete: "username", value: "admin", hidden: true });
	const form = h("form.panel", h("h2", { tabindex: -1 }, t("sign_in")), user,
		h("label", { for: "key" }, t("admin_key")), h("div.row", key, show), trouble, submit);
	root.append(form);

	show.onclick = () => {
		const hidden = key.type === "password";
		key.type = hidden ? "text" : "password";
		setText(show, t(hidden ? "hide" : "show"));
	};
	form.onsubmit = async (event) => {
		event.preventDefault();
		submit.disabled = true;
		setText(submit, t("signing_in"));
		setText(trouble, "");
		try {
			await app.api("POST", "api/auth/login", { api_key: key.value.trim() });
			app.enter();
		} catch (error) {
			const failure = /** @type {Failure} */ (error);
			setText(trouble, explanation(app, failure));
			setAttr(key, "aria-invalid", failure.status === 401 && "true");
			trouble.focus();
			submit.disabled = false;
			setText(submit, t("sign_in"));
		}
	};
	setTimeout(() => key.focus()); // when it is in the page
}

/**
 * @param {App} app
 * @param {Failure} failure
 */
function explanation({ t }, { status, message, retryAfter_s }) {
	if (status === 401) return t("wrong_key");
	return status === 429 ? t("too_many", { n: retryAfter_s }) : message;
}
