// @ts-check
/** Parts of a whole over time as step lines, with a sentence and a table that say the same. */
import { h, setAttr, setText, svg } from "../dom.js";
import { perCent } from "./quota.js";
import { sheet } from "./sheet.js";

/** The picture is stretched to the place that there is. */
const WIDTH = 720;
const HEIGHT = 160;
const TIMES = 6;
/** The axis from the top down, in per cent. */
const AXIS = [100, 75, 50, 25, 0];
const SECOND_MS = 1000;
const MOST_LINES = 8;
const NOTHING = "–";

/** @import { App } from "../types.js" */
/** @import { Line } from "./sheet.js" */

/** @typedef {{label: string, points: (number | null)[]}} Series the oldest point first, null if unknown */

/**
 * The path of a step line; where nothing is known it has a gap.
 * @param {(number | null)[]} points
 */
export function stepPath(points) {
	const each = WIDTH / points.length;
	let path = "";
	let before = /** @type {number | null} */ (null);
	points.forEach((point, at) => {
		if (point !== null) {
			const y = (HEIGHT * (1 - Math.min(1, point))).toFixed(1);
			path += `${before === null ? `M${(at * each).toFixed(1)} ${y}` : `V${y}`}H${((at + 1) * each).toFixed(1)}`;
		}
		before = point;
	});
	return path;
}

/**
 * @param {App} app
 * @param {string} label
 */
export const steps = (app, label) => new Steps(app, label);

class Steps {
	/**
	 * @param {App} app
	 * @param {string} label
	 */
	constructor(app, label) {
		this.app = app;
		this.label = label;
		/** @type {Series[]} */
		this.series = [];
		this.from_ms = 0;
		this.step_s = 1;
		this.cursor = -1;
		this.paths = Array.from({ length: MOST_LINES }, (_, n) => svg("path", { class: `line-${n}` }));
		this.mark = svg("path.cursor");
		this.picture = /** @type {SVGElement} */ (svg("svg.lines", { role: "img", tabindex: 0, "aria-label": label,
			viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" }, this.paths, this.mark));
		this.keys = h("ul.row");
		this.x = h("div.x", Array.from({ length: TIMES }, () => h("span")));
		this.readout = h("p.muted");
		this.details = h("details", h("summary", app.t("show_as_table")));
		this.el = h("figure.chart", this.keys, h("div.y", AXIS.map((n) => h("span", `${n} %`))), this.picture, this.x,
			this.readout, this.details);
		this.listen();
	}

	/**
	 * @param {Series[]} series
	 * @param {number} from_ms the time of the first point
	 * @param {number} step_s from one to the next
	 */
	patch(series, from_ms, step_s) {
		this.series = series.slice(0, MOST_LINES);
		this.from_ms = from_ms;
		this.step_s = step_s;
		this.keys.replaceChildren(...this.series.map(({ label }, n) => h("li", svg("svg.lines",
			{ "aria-hidden": "true", viewBox: "0 0 24 12" }, svg("path", { class: `line-${n}`, d: "M0 6H24" })), label)));
		this.draw();
	}

	/** @param {number} at */
	when(at, zone = true) {
		return this.app.clock(this.from_ms + at * this.step_s * SECOND_MS, { zone, seconds: false });
	}

	draw() {
		const { paths, series } = this;
		const size = series[0]?.points.length ?? 0;
		paths.forEach((path, n) => setAttr(path, "d", series[n] && stepPath(series[n].points)));
		[...this.x.children].forEach((span, n) => setText(span, size ? this.when(n * size / TIMES, false) : ""));
		setAttr(this.mark, "d", this.cursor >= 0 && size > 0 && `M${(this.cursor + 0.5) * WIDTH / size} 0v${HEIGHT}`);
		const sentence = this.sentence();
		setAttr(this.picture, "aria-label", sentence);
		setText(this.readout, this.cursor >= 0 && size ? this.reading(this.cursor) : sentence);
		if (this.details.open) this.drawTable(size);
	}

	/** How high each came, and where it is now. */
	sentence() {
		const texts = this.series.map(({ label, points }) => {
			const now = points.at(-1) ?? null;
			const most = Math.max(...points.map((point) => point ?? 0));
			return this.app.t("q_line", { label, most: perCent(most), now: now === null ? NOTHING : perCent(now) });
		});
		return `${this.label}: ${texts.join("; ") || NOTHING}`;
	}

	/** @param {number} at */
	texts(at) {
		return this.series.map(({ points }) => {
			const point = points[at];
			return point === null ? NOTHING : perCent(point);
		});
	}

	/** @param {number} at */
	reading(at) {
		return [this.when(at), ...this.texts(at).map((text, n) => `${this.series[n].label} ${text}`)].join(" · ");
	}

	/** @param {number} size */
	drawTable(size) {
		const table = sheet(this.label, [this.app.t("time"), ...this.series.map(({ label }) => label)]);
		const lines = Array.from({ length: size }, (_, at) => /** @type {Line} */ ([at, [this.when(at), ...this.texts(at)]]));
		table.fill(lines.reverse());
		this.details.replaceChildren(this.details.firstElementChild ?? "", table.el);
	}

	/**
	 * What the keys lead to is spoken.
	 * @param {number} at
	 * @param {"off" | "polite"} live
	 */
	point(at, live = "off") {
		this.cursor = at;
		setAttr(this.readout, "aria-live", live);
		this.draw();
	}

	listen() {
		const { picture, details } = this;
		const size = () => this.series[0]?.points.length ?? 0;
		details.ontoggle = () => this.draw();
		picture.onpointermove = ({ clientX }) => {
			const { left, width } = picture.getBoundingClientRect();
			this.point(Math.min(size() - 1, Math.floor((clientX - left) / width * size())));
		};
		picture.onpointerleave = () => this.point(-1);
		picture.onkeydown = ({ key }) => {
			const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
			if (!by || !size()) return;
			const to = this.cursor < 0 ? size() - 1 : this.cursor + by;
			this.point(Math.min(size() - 1, Math.max(0, to)), "polite");
		};
	}
}
