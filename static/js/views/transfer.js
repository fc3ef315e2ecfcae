// @ts-check
/** Exports the accounts to a file under a passphrase, and takes those of such a file. */
import { h } from "../dom.js";
import { dialog, field, typed } from "../ui/dialog.js";

const LEAST_PASSPHRASE = 12;
const REVOKE_AFTER_MS = 1000;
const NOT_SHOWN = 10;

/** @import { App } from "../types.js" */
/** @typedef {{id: string, name: string, type: string, outcome: "taken" | "there"}} Arrival */
/** @typedef {{dry_run: boolean, accounts: Arrival[], warnings: string[]}} Arrivals */

/** @param {App} app */
export function exportAccounts(app) {
	const { t } = app;
	const box = dialog(app);
	const words = field(t("t_passphrase"), { type: "password", autocomplete: "new-password" }, t("t_passphrase_hint"));
	const again = field(t("t_again"), { type: "password", autocomplete: "new-password" });
	const keys = h("input", { type: "checkbox" });
	const run = async () => {
		const passphrase = words.input.value;
		if (passphrase.length < LEAST_PASSPHRASE) return words.fail(t("t_short", { n: LEAST_PASSPHRASE }));
		if (passphrase !== again.input.value) return again.fail(t("t_differ"));
		const file = await app.api("POST", "api/admin/export", { passphrase, client_keys: keys.checked });
		save(file, new Date(app.now()).toISOString().slice(0, NOT_SHOWN));
		app.toast({ text: t("t_exported") });
		return "done";
	};
	const content = [h("p", t("t_export_about")), h("p.muted", t("t_rotates")), words.el, again.el,
		h("label.row", keys, t("t_keys"))];
	box.show(t("s_export_title"), content,
		[{ label: t("cancel") }, { label: t("s_export_do"), kind: "primary", run }], words);
}

/**
 * Hands the browser the file.
 * @param {unknown} file
 * @param {string} day
 */
function save(file, day) {
	const href = URL.createObjectURL(new Blob([JSON.stringify(file)], { type: "application/json" }));
	h("a", { href, download: `claude-proxy-${day}.json` }).click();
	setTimeout(() => URL.revokeObjectURL(href), REVOKE_AFTER_MS);
}

/** First says what would be done, then does it. @param {App} app */
export function importAccounts(app) {
	const { t } = app;
	const box = dialog(app);
	const chosen = field(t("t_file"), { type: "file", accept: ".json,application/json" });
	const words = field(t("t_passphrase"), { type: "password" });
	/** @param {unknown} file @param {string} passphrase @param {boolean} dry_run @returns {Promise<Arrivals>} */
	const send = (file, passphrase, dry_run) =>
		app.api("POST", "api/admin/import", { file, passphrase, dry_run });

	const look = async () => {
		const [file] = chosen.input.files ?? [];
		if (!file) return chosen.fail(t("t_choose"));
		const content = parsed(await file.text());
		if (!content) return chosen.fail(t("t_no_export"));
		if (!typed(words)) return words.fail(t("w_needed"));
		const passphrase = words.input.value;
		return show(await send(content, passphrase, true), () => send(content, passphrase, false));
	};

	/** @param {Arrivals} found @param {() => Promise<Arrivals>} take */
	function show({ accounts, warnings }, take) {
		const n = accounts.filter(({ outcome }) => outcome === "taken").length;
		const run = async () => {
			await take();
			app.toast({ text: t("t_imported", { n }) });
			return "done";
		};
		const failed = h("p.error", { role: "alert" });
		const tell = async () => {
			try {
				return await run();
			} catch (error) {
				failed.textContent = /** @type {Error} */ (error).message;
				return undefined;
			}
		};
		const lines = accounts.map(({ name, type, outcome }) =>
			h("li", `${name} · ${t(type === "oauth" ? "a_oauth" : "a_api_key")} · ${t(`t_${outcome}`)}`));
		const content = [h("ul.list", lines), warnings.map((text) => h("p.banner", { "data-kind": "warn" }, text)), failed];
		/** @type {import("../ui/dialog.js").Choice[]} */
		const choices = n
			? [{ label: t("cancel"), autofocus: true }, { label: t("t_take", { n }), kind: "primary", run: tell }]
			: [{ label: t("close") }];
		box.show(n ? t("t_take_title", { n }) : t("t_all_there"), content, choices);
	}

	box.show(t("s_import_title"), [h("p", t("t_import_about")), chosen.el, words.el],
		[{ label: t("cancel") }, { label: t("t_look"), kind: "primary", run: look }], words);
}

/** The object in the text, or null. @param {string} text */
function parsed(text) {
	try {
		const value = JSON.parse(text);
		return value?.constructor === Object ? value : null;
	} catch {
		return null;
	}
}
