/** What frames every view: navigation, health, connection, banner, title. */
import { h, setAttr, setText, svg } from "./dom.js";
import { clock, duration } from "./format.js";

const BANNER_AFTER_MS = 10_000;
const BANNER_STAYS_MS = 4000;
/** A phone has the first four at hand, the others behind "More". */
export const VIEWS = ["overview", "accounts", "sessions", "tokens", "usage", "events", "connect", "settings"];

export function header(app, byId) {
	const { live, store, t } = app;
	const [main, health, chip, banner] = ["main", "health", "connection", "banner"].map(byId);
	const text = h("span"), retry = h("button.link", { "data-act": "live-retry" }, t("retry_now"));
	const help = h("span", t("polling_why"), " · ", h("a", { href: "#/settings" }, t("how_to_fix")));
	const icon = document.querySelector("link[rel=icon]");
	let lost = false, againUntil = 0, told = false;

	const item = (tag, name, attrs) => h(tag, attrs, svg("svg.i", { "aria-hidden": "true" },
		svg("use", { href: new URL(`../icons.svg#${name}`, import.meta.url) })), h("span", t(name)));
	const links = VIEWS.map((name) => item("a", name, { href: `#/${name}` }));
	const out = h("button", { "data-act": "sign-out" }, t("log_out"));
	byId("nav").append(...links.slice(0, 4), item("button", "more", { popovertarget: "more" }),
		h("div", { id: "more", popover: true }, links.slice(4), out));

	function patch(title) {
		const { status, reasons } = store.items("stats").get("health") ?? {};
		const invalid = live.state !== "signed-out" && store.items("stats").get("accounts")?.invalid;
		document.title = `${invalid ? `(${invalid}!) ` : ""}${title} – Claude Proxy`;
		if (!status) return;
		setAttr(health, "data-kind", status);
		setText(health.firstElementChild, t(status));
		setText(health.lastElementChild, reasons.length ? `: ${reasons.join("; ")}` : "");
		setAttr(icon, "href", icon.getAttribute("href").replace(/\w+\.svg/, `${status}.svg`));
	}

	const say = (news) => (setText(banner, news), app.announce(news));

	function state() {
		const more = live.state === "polling" ? help : live.lostAt ? retry : text;
		// Put anew, the button would lose the focus.
		if (chip.lastChild !== more) chip.replaceChildren(...new Set([text, more]));
		setAttr(chip, "data-kind", live.state === "live" ? "ok" : live.state !== "connecting" && "warn");
		setAttr(main, "data-stale", live.lostAt > 0);
		if (app.online() && lost) {
			lost = false;
			againUntil = live.now() + BANNER_STAYS_MS;
			say(t("live_again", { n: live.applied }));
		}
		if (live.outdated && !told) app.toast({ text: t("outdated"), undo: () => location.reload(), label: t("reload") });
		told = live.outdated;
		tick();
	}

	function tick() {
		const offline = !app.online();
		setText(text, t(`state_${live.state}`, { wait: duration(live.retryAt - live.now() + 999) }));
		if (live.lostAt && !lost && live.now() - live.lostAt > BANNER_AFTER_MS) {
			lost = true;
			say(t("lost", { at: clock(live.lostAt) }));
		}
		setAttr(banner, "data-kind", lost ? "warn" : "ok");
		banner.hidden = !lost && live.now() > againUntil;
		for (const el of document.querySelectorAll(offline ? "[data-write]" : "[data-write][aria-disabled]")) {
			setAttr(el, "aria-disabled", offline && "true");
			setAttr(el, "title", offline && t("not_sent"));
		}
	}

	return { patch, state, tick };
}
