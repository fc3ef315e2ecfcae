/** The login: the admin key, once, for a cookie that no script can read. */
import { h, setAttr, setText } from "../dom.js";

export default function mount(root, app) {
	const { t } = app;
	const key = h("input", { id: "key", type: "password", autocomplete: "current-password", required: true,
		"aria-describedby": "trouble", spellcheck: "false" });
	const show = h("button", { type: "button" }, t("show"));
	const trouble = h("p.error", { id: "trouble", tabindex: -1, role: "alert" });
	const submit = h("button.primary", t("sign_in"));
	const user = h("input", { autocomplete: "username", value: "admin", hidden: true });
	const form = h("form.panel", h("h2", { tabindex: -1 }, t("sign_in")), user,
		h("label", { for: "key" }, t("admin_key")), h("div.row", key, show), trouble, submit);
	root.append(form);

	show.onclick = () => {
		key.type = key.type === "text" ? "password" : "text";
		setText(show, t(key.type === "text" ? "hide" : "show"));
	};
	form.onsubmit = async (event) => {
		event.preventDefault();
		submit.disabled = true;
		setText(submit, t("signing_in"));
		setText(trouble, "");
		try {
			await app.api("POST", "api/auth/login", { api_key: key.value.trim() });
			return app.enter();
		} catch ({ status, retryAfter, message }) {
			const texts = { 401: t("wrong_key"), 429: t("too_many", { n: retryAfter }) };
			setText(trouble, texts[status] ?? message);
			setAttr(key, "aria-invalid", status === 401 && "true");
			trouble.focus();
		}
		submit.disabled = false;
		setText(submit, t("sign_in"));
	};
	setTimeout(() => key.focus()); // when it is in the page
}
