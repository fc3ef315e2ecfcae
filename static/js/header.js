// @ts-check
/** What frames every view: navigation, health, connection, banner, title. */
import { byId, h, setAttr, setText, svg } from "./dom.js";
import { clock, duration } from "./format.js";

const BANNER_AFTER_MS = 10_000;
const BANNER_STAYS_MS = 4000;
/** A wait is shown in whole seconds, the last of them as 1 s. */
const ROUND_UP_MS = 999;
/** A phone has so many views at hand, the others behind "More". */
const AT_HAND = 4;

/** @typedef {"overview" | "accounts" | "sessions" | "tokens" | "requests" | "usage" | "events" | "connect"
 *	| "settings"} ViewName */

/** @type {ViewName[]} */
export const VIEWS = ["overview", "accounts", "sessions", "tokens", "requests", "usage", "events", "connect",
	"settings"];

/** @import { Attributes } from "./dom.js" */
/** @import { App, FirstText, Health, Translate } from "./types.js" */

/** @param {App} app */
export function header(app) {
	fillNavigation(app.t);
	const connection = connectionChip(app);
	const banner = bannerOf(app);
	const patchHealth = healthChip(app);
	let told = false;

	function state() {
		connection.patch();
		setAttr(byId("main"), "data-stale", app.live.lostAt > 0);
		banner.restored();
		patchHealth();
		const { outdated } = app.live;
		if (outdated && !told) {
			app.toast({ text: app.t("outdated"), undo: () => location.reload(), label: app.t("reload") });
		}
		told = outdated;
		tick();
	}

	function tick() {
		connection.tick();
		banner.tick();
		markWrites(app);
	}

	/** @param {string} title that of the view */
	function patch(title) {
		const { live, store } = app;
		const invalid = live.state !== "signed-out" && store.items("stats").get("accounts")?.invalid;
		document.title = `${invalid ? `(${invalid}!) ` : ""}${title} – Claude Proxy`;
		patchHealth();
	}

	return { patch, state, tick };
}

/** @param {Translate} t */
function fillNavigation(t) {
	/** @type {<Tag extends "a" | "button">(tag: Tag, name: FirstText, attributes: Attributes) => HTMLElement} */
	const item = (tag, name, attributes) => {
		const icon = svg("use", { href: new URL(`../icons.svg#${name}`, import.meta.url) });
		return h(tag, attributes, svg("svg.i", { "aria-hidden": "true" }, icon), h("span", t(name)));
	};
	const links = VIEWS.map((name) => item("a", name, { href: `#/${name}` }));
	byId("nav").append(...links.slice(0, AT_HAND), item("button", "more", { popovertarget: "more" }),
		h("div", { id: "more", popover: true }, links.slice(AT_HAND)));
}

/**
 * Gives what patches the health in the header, and the page's icon. Without a connection nobody knows it.
 * @param {App} app
 */
function healthChip({ live, store, t }) {
	const chip = byId("health");
	const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
	return () => {
		/** @type {Health | undefined} */
		const health = store.items("stats").get("health");
		if (!health) return;
		const known = !live.lostAt;
		const status = known ? health.status : "unknown";
		const reasons = known ? health.reasons : [];
		setAttr(chip, "data-kind", known && status);
		setText(chip.firstElementChild, t(status));
		setText(chip.lastElementChild, reasons.length ? `: ${reasons.join("; ")}` : "");
		setAttr(icon, "href", icon.getAttribute("href")?.replace(/\w+\.svg/, `${status}.svg`));
	};
}

/** @param {App} app */
function connectionChip({ live, t }) {
	const chip = byId("connection");
	const text = h("span");
	const retry = h("button.link", { "data-act": "live-retry" }, t("retry_now"));
	const help = h("span", t("polling_why"), " · ", h("a", { href: "#/settings" }, t("how_to_fix")));

	/** What stands behind the text, if anything. */
	function more() {
		if (live.state === "polling") return [help];
		return live.lostAt ? [retry] : [];
	}

	function kind() {
		if (live.state === "live") return "ok";
		return live.state === "connecting" ? null : "warn";
	}

	return {
		patch() {
			const parts = [text, ...more()];
			// Put anew, the button would lose the focus.
			if (chip.lastChild !== parts.at(-1)) chip.replaceChildren(...parts);
			setAttr(chip, "data-kind", kind());
		},
		tick() {
			const wait = duration(live.retryAt - live.now() + ROUND_UP_MS);
			setText(text, t(`state_${live.state}`, { wait }));
		},
	};
}

/** @param {App} app */
function bannerOf(app) {
	const { live, t } = app;
	const banner = byId("banner");
	let lost = false;
	let againUntil = 0;

	/** @param {string} news */
	function say(news) {
		setText(banner, news);
		app.announce(news);
	}

	return {
		/** Says that it is live again, if it said that the connection was lost. */
		restored() {
			if (!lost || !app.online()) return;
			lost = false;
			againUntil = live.now() + BANNER_STAYS_MS;
			say(t("live_again", { n: live.applied }));
		},
		tick() {
			if (live.lostAt && !lost && live.now() - live.lostAt > BANNER_AFTER_MS) {
				lost = true;
				say(t("lost", { at: clock(live.lostAt) }));
			}
			setAttr(banner, "data-kind", lost ? "warn" : "ok");
			banner.hidden = !lost && live.now() > againUntil;
		},
	};
}

/** Marks the controls that go nowhere while nothing can be sent. @param {App} app */
function markWrites({ online, t }) {
	const offline = !online();
	for (const el of document.querySelectorAll(offline ? "[data-write]" : "[data-write][aria-disabled]")) {
		setAttr(el, "aria-disabled", offline && "true");
		setAttr(el, "title", offline && t("not_sent"));
	}
}
