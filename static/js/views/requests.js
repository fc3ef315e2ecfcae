// @ts-check
/** The last requests, newest first: who asked, which account answered, what it came to. */
import { act, h, keyed, refocus, setText } from "../dom.js";
import { FILTERS, MOST, fits, queryOf, unbroken, united, wantedIn } from "../requests.js";
import { offer } from "../ui/export.js";
import { Filters } from "../ui/request_filters.js";
import { requestHeads, requestRow } from "../ui/request_row.js";
import { rowClicks, rowKeys } from "../ui/rows.js";

const PAGE = 100;
const BONES = 8;
const FIELDS = ["id", "request_id", "upstream_request_id", "at", "key_id", "key_name", "session_id", "account_id",
	"account_name", "model", "method", "path", "stream", "why", "moved", "status", "outcome", "cut_by", "error",
	"reason", "ttfb_ms", "duration_ms", "answer_bytes", "input_tokens", "output_tokens",
	"cache_creation_input_tokens", "cache_read_input_tokens", "estimated", "cost_usd"];

/** @import { App, Dirty, LoggedRequest, Mount } from "../types.js" */

/** @type {Mount} */
export default function mount(root, app) {
	const log = new Requests(app);
	root.append(log.parts.el);
	return {
		topics: ["requests", "tokens"],
		patch: (dirty) => log.patch(dirty),
		tick: () => log.tick(),
	};
}

/**
 * What stands still: all but the rows.
 * @param {App} app
 * @param {Filters} filters
 */
function build({ t }, filters) {
	const pause = h("button", { "data-act": "pause" }, t("pause"));
	const news = h("button.offer", { "data-act": "news", hidden: true });
	const body = h("tbody", { role: "rowgroup" });
	const grid = h("table.grid.requests", { role: "table" }, h("caption.sr", t("requests")),
		h("thead", { role: "rowgroup" }, requestHeads(t)), body);
	const note = h("div.note", { hidden: true });
	const range = h("span");
	const previous = h("button", { "data-act": "previous" }, t("newer"));
	const next = h("button", { "data-act": "next" }, t("older"));
	const pager = h("nav.pager", { "aria-label": t("pages"), hidden: true }, previous, range, next);
	const save = h("button", { "data-act": "export" }, t("export"));
	const el = h("div", h("div.toolbar.requests-filters", filters.els, pause, save), filters.chips, news, grid, note,
		pager);
	return { el, pause, news, grid, body, note, range, previous, next, pager };
}

class Requests {
	/** @param {App} app */
	constructor(app) {
		this.app = app;
		this.items = app.store.items("requests");
		this.wanted = wantedIn(app.query());
		/** Those loaded that pass the filters, newest first. @type {LoggedRequest[]} */
		this.list = [];
		/** Up to this number all are in the list that pass. */
		this.newest = 0;
		/** The server's run that was asked for them. @type {string | null} */
		this.epoch = null;
		/** The breaks of the connection until then. */
		this.losses = app.live.losses;
		/** Whether the list is what it answered. */
		this.loaded = false;
		this.page = 0;
		this.paused = false;
		/** Whether the server has none that are older. */
		this.ended = false;
		/** The number of the last question: the answer to one before comes too late. */
		this.turn = 0;
		this.loading = false;
		/** @type {Map<string, ReturnType<typeof requestRow>>} */
		this.rows = new Map();
		this.filters = new Filters(app, (change) => this.filter(change));
		this.parts = build(app, this.filters);
		this.parts.body.append(...Array.from({ length: BONES }, () => h("tr.bone")));
		this.listen();
	}

	/** @param {Dirty} dirty */
	patch(dirty) {
		if (dirty.has("tokens") || dirty.has("accounts")) this.filters.offer(this.list);
		if (dirty.has("requests") && this.app.store.ready("requests")) this.follow();
	}

	tick() {
		for (const row of this.rows.values()) row.tick();
		const { store, live } = this.app;
		if (store.ready("requests")) this.follow();
		else if (live.lostAt && this.parts.note.hidden) this.say(this.app.t("not_loaded"), "retry");
	}

	/** Whether rows stay where they are: somebody reads them. */
	held() {
		return this.paused || this.page > 0 || this.parts.grid.matches(":hover,:focus-within");
	}

	/** Takes in what has come, or says that it has. */
	follow(anyway = false) {
		const { store: { epoch }, live: { losses } } = this.app;
		if (this.epoch !== epoch || !(this.loaded || this.loading || this.losses === losses)) this.load();
		if (this.loading || !this.loaded) return;
		const live = unbroken([...this.items.values()]);
		const news = live.filter((request) => request.id > this.newest && fits(this.wanted, request));
		const gap = live.length > 0 && live[0].id > this.newest + 1;
		if (!anyway && this.held()) {
			this.announce(news.length, gap);
			return;
		}
		if (gap) {
			this.load();
			return;
		}
		this.newest = live.at(-1)?.id ?? this.newest;
		this.announce(0, false);
		if (!news.length) return;
		this.list = [...news.reverse(), ...this.list];
		if (this.list.length > MOST) {
			this.list.length = MOST;
			this.ended = false;
		}
		this.draw();
	}

	/**
	 * @param {number} n
	 * @param {boolean} more whether there are still more
	 */
	announce(n, more) {
		const { news } = this.parts;
		news.hidden = !n && !more;
		if (!news.hidden) setText(news, this.app.t(more ? "rq_many_new" : "rq_new", { n }));
	}

	/** Shows what has come, though somebody reads. */
	showNews() {
		this.parts.pause.focus(); // the button that was pressed goes
		if (this.page) this.load();
		else this.follow(true);
	}

	async retry() {
		this.app.live.retry();
		if (this.app.store.ready("requests")) await this.load();
		refocus();
	}

	/**
	 * Begins anew, with what the filters want. What fails waits for Retry, or until a break of the connection has ended:
	 * each paint would ask again.
	 */
	async load() {
		this.epoch = this.app.store.epoch;
		this.losses = this.app.live.losses;
		this.loaded = false;
		const found = await this.ask(this.wanted);
		if (!found) return;
		const live = unbroken([...this.items.values()]);
		this.list = united(found, live.filter((request) => fits(this.wanted, request)));
		this.newest = Math.max(live.at(-1)?.id ?? 0, found[0]?.id ?? 0);
		this.loaded = true;
		this.page = 0;
		this.announce(0, false);
		this.draw();
	}

	async older() {
		const found = await this.ask({ ...this.wanted, before: String(this.list.at(-1)?.id ?? "") });
		if (!found) return;
		this.list = united(this.list, found);
		this.turnTo(this.page + 1);
	}

	/**
	 * A page of requests; null if the question failed, or another one was asked meanwhile.
	 * @param {Record<string, string>} filters
	 * @returns {Promise<LoggedRequest[] | null>}
	 */
	async ask(filters) {
		this.turn += 1;
		const mine = this.turn;
		this.loading = true;
		try {
			const query = queryOf(/** @type {any} */ ({ ...filters, limit: String(PAGE) }));
			const { requests } = await this.app.api("GET", `api/admin/requests?${query}`);
			if (mine !== this.turn) return null;
			this.ended = requests.length < PAGE;
			return requests;
		} catch (error) {
			const { message } = /** @type {Error} */ (error);
			if (mine !== this.turn) return null;
			this.draw();
			this.say(`${this.app.t("not_loaded")} ${message}`, "retry");
			return null;
		} finally {
			if (mine === this.turn) this.loading = false;
		}
	}

	/** @param {number} page */
	turnTo(page) {
		this.page = Math.max(0, Math.min(page, Math.ceil(this.list.length / PAGE) - 1));
		this.draw();
		this.parts.grid.scrollIntoView();
	}

	next() {
		if ((this.page + 1) * PAGE < this.list.length) this.turnTo(this.page + 1);
		else if (this.loaded) this.older();
	}

	draw() {
		const { t } = this.app;
		const { grid, body, range, previous, next, pager, note } = this.parts;
		const from = this.page * PAGE;
		const page = this.list.slice(from, from + PAGE);
		const byId = new Map(page.map((request) => [request.request_id, request]));
		if (!this.rows.size) body.replaceChildren();
		keyed(body, byId.keys(), this.rows, (id) =>
			requestRow(this.app, /** @type {LoggedRequest} */ (byId.get(id))));
		if (!body.querySelector("[tabindex='0']")) body.firstElementChild?.setAttribute("tabindex", "0");
		const n = `${this.list.length}${this.ended ? "" : "+"}`;
		setText(range, t("range", { from: from + 1, to: from + page.length, n }));
		previous.disabled = this.page === 0;
		next.disabled = this.ended && from + PAGE >= this.list.length;
		pager.hidden = !page.length || (previous.disabled && next.disabled);
		this.filters.offer(this.list);
		grid.hidden = !page.length;
		note.hidden = page.length > 0;
		note.replaceChildren(); // hidden alone, a button would keep the focus
		if (page.length) return;
		if (queryOf(this.wanted).size) this.say(t("rq_no_match"), "clear_filters");
		else this.say(t("no_requests"), "connect");
	}

	/**
	 * In the place of rows, or below them.
	 * @param {string} text
	 * @param {"retry" | "clear_filters" | "connect"} does
	 */
	say(text, does) {
		const { t } = this.app;
		const { note, grid } = this.parts;
		grid.hidden = !this.rows.size;
		note.hidden = false;
		note.replaceChildren(h("p", { role: "status" }, text), h("button", { "data-act": does }, t(does)));
	}

	/** @param {Record<string, string>} change */
	filter(change) {
		this.app.setQuery(change);
		this.wanted = wantedIn(this.app.query());
		this.filters.show(this.wanted);
		this.list = this.list.filter((request) => fits(this.wanted, request));
		this.page = 0;
		this.load();
	}

	/** @param {readonly string[]} names of filters */
	drop(names) {
		this.filter(Object.fromEntries(names.map((name) => [name, ""])));
		this.filters.search.focus();
	}

	/** @param {HTMLElement} button */
	pause(button) {
		this.paused = !this.paused;
		setText(button, this.app.t(this.paused ? "follow" : "pause"));
		this.follow();
	}

	listen() {
		const { el, body } = this.parts;
		act(el, {
			pause: (button) => this.pause(button),
			news: () => this.showNews(),
			previous: () => this.turnTo(this.page - 1),
			next: () => this.next(),
			retry: () => this.retry(),
			connect: () => this.app.go("#/connect"),
			clear_filters: () => this.drop(FILTERS),
			drop: ({ value }) => this.drop(value.split(" ")),
			export: (button) => offer(this.app, button, "requests", FIELDS, this.list),
		});
		rowKeys(this.app, body);
		rowClicks(body, (row) => row.querySelector("a")?.click());
	}
}
