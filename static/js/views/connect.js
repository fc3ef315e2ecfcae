// @ts-check
/** Points a client here: a client key, what to type, and whether its first request has come. */
import { h, keyed, setAttr, setText } from "../dom.js";
import { endOf } from "../requests.js";
import { press } from "../ui/dialog.js";

/** Where clients go: this page's address, without `/v1`. */
const HERE = new URL(".", document.baseURI).href.slice(0, -1);
const PLACEHOLDER = "<YOUR_TOKEN>";

/** @import { App, ClientKey, LoggedRequest, Mount, TextKey } from "../types.js" */
/** @typedef {{name: string, label: string, content: HTMLElement}} Page */

let groups = 0;

/**
 * Copies the element's text, and tells it a "copy" as the browser does of what is copied by hand. Where the clipboard
 * is closed, as over plain HTTP, the text is selected.
 * @param {HTMLElement} el
 */
export async function copy(el) {
	try {
		await navigator.clipboard.writeText(el.textContent ?? "");
		el.dispatchEvent(new Event("copy", { bubbles: true }));
		return true;
	} catch {
		getSelection()?.selectAllChildren(el);
		return document.execCommand("copy");
	}
}

/** A button that copies the element's text, and says so. @param {App} app @param {HTMLElement} el */
export function copyButton({ t, toast }, el) {
	const button = h("button.link", t("copy"));
	button.onclick = async () => toast({ text: t(await copy(el) ? "copied" : "copy_manual") });
	return button;
}

/**
 * A text to copy; the outcome is said beside it, for toasts lie behind a dialog.
 * @param {App} app
 * @param {string} label
 * @param {string} text
 */
export function copyable({ t }, label, text) {
	const pre = h("pre", text);
	const said = h("span", { role: "status" });
	const run = async () => setText(said, t(await copy(pre) ? "copied" : "copy_manual"));
	const button = press({ label: t("copy"), "aria-label": t("copy_what", { what: label }), run });
	return h("div.snippet", h("div.row", h("b", label), said, button), pre);
}

/**
 * What to type, a tab for each client.
 * @param {App} app
 * @param {string} key
 * @param {string} [first] the tab that is shown
 * @param {(client: string) => void} [chosen]
 */
export function snippets(app, key, first, chosen) {
	const { t } = app;
	const pages = Object.entries(recipes(HERE, key)).map(([client, texts]) => ({
		name: client,
		label: t(/** @type {TextKey} */ (`c_${client}`)),
		content: h("div.columns", texts.map(([name, text]) => copyable(app, t(/** @type {TextKey} */ (name)), text))),
	}));
	return tabs(t("c_client"), pages, first, chosen);
}

/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	const choice = keyChoice(app);
	const first = firstRequest(app);
	const shown = snippets(app, PLACEHOLDER, app.query().get("client") ?? "", (client) => app.setQuery({ client }));
	const intro = h("p");
	root.append(
		h("section.panel", h("h3", t("c_key")), choice.el, intro),
		h("section.panel", h("h3", t("c_type")), h("p.muted", t("connect_note")), shown),
		h("section.panel", h("h3", t("c_wait")), first.el, h("p.muted", t("c_hint"))));

	return {
		topics: ["tokens", "requests"],
		patch() {
			const key = choice.patch();
			const unknown = { key: PLACEHOLDER, name: "", masked: "" };
			const about = key ? { ...unknown, name: key.name, masked: key.key } : unknown;
			const missing = store.ready("tokens") ? t("no_keys") : "";
			setText(intro, key ? t("connect_intro", about) : missing);
			first.patch(key);
		},
	};
}

/** Whether it opens the API now. @param {ClientKey} key */
const isOfClients = ({ status, role }) => status === "active" && role !== "metrics";

/** Those of admins stand behind. @param {ClientKey} a @param {ClientKey} b */
const newestFirst = (a, b) => b.role.localeCompare(a.role) || b.created_at.localeCompare(a.created_at);

/**
 * Chooses one of the keys in use; the newest, if the address names none. One that is made from here is chosen.
 * @param {App} app
 */
function keyChoice(app) {
	const { store, t } = app;
	const items = store.items("tokens");
	const select = h("select", { "aria-label": t("client_key") });
	/** @type {Map<string, {el: HTMLOptionElement}>} */
	const options = new Map();
	/** Those there were when a new one was to be made. @type {Set<string> | null} */
	let before = null;
	let wanted = app.query().get("key") ?? "";

	/** @param {string} id */
	function want(id) {
		wanted = id;
		app.setQuery({ key: id });
	}

	async function create() {
		const { edit } = await import("./key.js");
		before = new Set(items.keys());
		edit(app);
	}

	function patch() {
		const keys = [...items.values()].filter(isOfClients).sort(newestFirst);
		const made = before && keys.find(({ id }) => !before?.has(id));
		if (made) {
			before = null;
			want(made.id);
		}
		keyed(select, keys.map(({ id }) => id), options, (id) => ({ el: h("option", { value: id }) }));
		for (const { id, name, key } of keys) setText(options.get(id)?.el ?? null, `${name} · ${key}`);
		const chosen = keys.find(({ id }) => id === wanted) ?? keys[0];
		if (chosen && select.value !== chosen.id) select.value = chosen.id;
		select.hidden = !chosen;
		return chosen;
	}

	select.onchange = () => {
		want(select.value);
		store.marker("tokens")(select.value); // patched with the next paint
	};
	const button = press({ label: t("create_key"), "data-write": "", run: create });
	return { el: h("div.row.pick", select, button), patch };
}

/**
 * Says whether a request of the key has come since the page was opened, and what became of it.
 * @param {App} app
 */
function firstRequest(app) {
	const { store, t } = app;
	const text = h("span");
	const link = h("a", { hidden: true }, t("open"));
	const el = h("p.status", { role: "status" }, text, link);
	/** Since when, by key. @type {Map<string, number>} */
	const since = new Map();

	/** @param {ClientKey} key */
	function newest({ id }) {
		const from = since.get(id) ?? app.now();
		since.set(id, from);
		const requests = [...store.items("requests").values()];
		return requests.findLast((request) => request.key_id === id && endOf(request) >= from);
	}

	/** @param {ClientKey} key */
	function waiting({ name, last_used_at }) {
		return last_used_at ? t("c_used", { name, at: app.clock(last_used_at) }) : t("c_waiting", { name });
	}

	return {
		el,
		/** @param {ClientKey | undefined} key */
		patch(key) {
			const request = key && newest(key);
			setAttr(el, "data-kind", request && (request.outcome === "ok" ? "ok" : "error"));
			setAttr(link, "href", request && `#/requests/${request.request_id}`);
			link.hidden = !request;
			if (request) setText(text, came(app, request));
			else setText(text, key ? waiting(key) : "");
		},
	};
}

/**
 * @param {App} app
 * @param {LoggedRequest} request
 */
function came({ t, clock }, { at, key_name, status, outcome, model, path, account_name, reason }) {
	const about = { name: key_name, at: clock(at), what: model ?? path, status };
	if (outcome === "ok") return `✓ ${t("c_came", { ...about, account: account_name ?? "–" })}`;
	return `✕ ${t("c_failed", { ...about, reason: reason ?? t(`rq_was_${outcome}`) })}`;
}

/**
 * Tabs by the ARIA pattern: one is in the tab order; arrow keys, Home and End choose. `first` or else the first one is
 * shown; `chosen` is called with the name of another that is chosen.
 * @param {string} label
 * @param {Page[]} pages
 * @param {string} [first]
 * @param {(name: string) => void} [chosen]
 */
function tabs(label, pages, first = "", chosen = () => {}) {
	groups += 1;
	const ids = pages.map(({ name }) => `tab-${groups}-${name}`);
	const panels = pages.map(({ content }, n) =>
		h("div.tabpanel", { role: "tabpanel", id: `${ids[n]}-panel`, "aria-labelledby": ids[n], tabindex: 0 }, content));
	const buttons = pages.map((page, n) =>
		h("button", { type: "button", role: "tab", id: ids[n], "aria-controls": `${ids[n]}-panel` }, page.label));

	/** @param {number} at */
	function show(at) {
		buttons.forEach((button, n) => {
			setAttr(button, "aria-selected", String(n === at));
			setAttr(button, "tabindex", n === at ? 0 : -1);
			panels[n].hidden = n !== at;
		});
	}

	/** @param {number} at */
	function choose(at) {
		show(at);
		chosen(pages[at].name);
	}

	/** @param {KeyboardEvent} event */
	function move(event) {
		const now = buttons.findIndex((button) => button === event.target);
		const last = pages.length - 1;
		const to = { ArrowLeft: now ? now - 1 : last, ArrowRight: now < last ? now + 1 : 0, Home: 0, End: last }[event.key];
		if (to === undefined || now < 0) return;
		event.preventDefault();
		buttons[to].focus();
		choose(to);
	}

	buttons.forEach((button, n) => {
		button.onclick = () => choose(n);
	});
	const list = h("div.tabs", { role: "tablist", "aria-label": label }, buttons);
	list.onkeydown = move;
	show(Math.max(0, pages.findIndex(({ name }) => name === first)));
	return h("div", list, panels);
}

/** By client, the keys of texts or names in code, each with what to type. @type {(url: string, key: string) =>
 *	Record<string, [name: string, text: string][]>} */
const recipes = (url, key) => ({
	curl: [["curl", `curl -N "${url}/v1/messages" -H "Authorization: Bearer ${key}" \\
  -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{"model": "claude-haiku-4-5", "max_tokens": 100, "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`]],
	python: [["Python SDK", `from anthropic import Anthropic

client = Anthropic(base_url="${url}", api_key="${key}")
print(client.messages.create(
    model="claude-haiku-4-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
).content)`]],
	typescript: [["TypeScript SDK", `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${url}", apiKey: "${key}" });
console.log(await client.messages.create({
  model: "claude-haiku-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }],
}));`]],
	claude_code: [
		["bash, zsh", `export ANTHROPIC_BASE_URL="${url}"
export ANTHROPIC_AUTH_TOKEN="${key}"
unset ANTHROPIC_API_KEY
claude`],
		["~/.claude/settings.json",
			JSON.stringify({ env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_AUTH_TOKEN: key } }, null, 2)],
		["fish", `set -gx ANTHROPIC_BASE_URL "${url}"
set -gx ANTHROPIC_AUTH_TOKEN "${key}"
set -e ANTHROPIC_API_KEY
claude`],
		["PowerShell", `$env:ANTHROPIC_BASE_URL = "${url}"
$env:ANTHROPIC_AUTH_TOKEN = "${key}"
Remove-Item Env:ANTHROPIC_API_KEY -ErrorAction SilentlyContinue
claude`],
		["cmd", `set "ANTHROPIC_BASE_URL=${url}"
set "ANTHROPIC_AUTH_TOKEN=${key}"
set "ANTHROPIC_API_KEY="
claude`],
	],
	others: [
		["base_url", url],
		["client_key", key],
		["OpenAI SDK", `from openai import OpenAI

client = OpenAI(base_url="${url}/v1", api_key="${key}")
print(client.chat.completions.create(
    model="claude-haiku-4-5", messages=[{"role": "user", "content": "Hello"}]
).choices[0].message.content)`],
	],
});
