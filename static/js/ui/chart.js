/** Stacked bars over time: a picture, a cursor that reads a bar out, and a table. */
import { h, setAttr, setText, svg } from "../dom.js";
import { compact, number } from "../format.js";
import { sheet } from "./sheet.js";

const WIDTH = 720, HEIGHT = 160; // stretched to the place there is
const HATCHES = ["", "M0 6 6 0", "M0 3h6", "M3 0v6", "M0 0 6 6", "M2 2h2v2h-2z"];
const sum = (numbers) => numbers.reduce((a, b) => a + b);

/** `series` are {key, label}: a field of the buckets, and the class of its colour. */
export function bars({ t, clock }, { series, label, text = number }) {
	const [brief, least] = text === number ? [compact, 4] : [text, 0.04];
	const heads = [t("time"), ...series.map((one) => one.label)];
	const fill = (key) => ({ fill: `url(#${key})` });
	const paths = series.map(({ key }) => svg("path", fill(key)));
	const bands = ["partial", "cursor"].map((name) => svg(`path.${name}`));
	const size = { width: 6, height: 6 };
	const patterns = series.map(({ key }, n) => svg("pattern", { id: key, patternUnits: "userSpaceOnUse", ...size },
		svg(`rect.${key}`, size), svg("path", { d: HATCHES[n] })));
	const view = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
	const pic = svg("svg", { role: "img", tabindex: 0, "aria-label": label, ...view }, patterns, paths, bands);
	const axis = (name, n) => h(`div.${name}`, Array.from({ length: n }, () => h("span")));
	const y = axis("y", 5), x = axis("x", 6), readout = h("p.muted"), table = sheet(label, heads);
	const details = h("details", h("summary", t("show_as_table")), table.el);
	const keys = h("ul.row", series.map((one) => h("li",
		svg("svg", { "aria-hidden": "true" }, svg("path", { d: "M0 0h12v12H0", ...fill(one.key) })), one.label)),
	h("li.partial", t("incomplete")));
	let buckets = [], cursor = -1;

	const of = (bucket) => series.map(({ key }) => bucket[key]);
	const when = ({ start }, zone = true) => clock(start * 1000, { zone, seconds: false });
	const texts = (bucket) => [when(bucket), ...of(bucket).map(text)];

	function draw() {
		if (!buckets.length) return;
		const each = WIDTH / buckets.length, lines = series.map(() => "");
		const totals = buckets.map((bucket) => sum(of(bucket))), most = Math.max(...totals);
		const part = Math.max(most, least) / 4, ten = 10 ** Math.floor(Math.log10(part));
		const step = ten * [1, 2, 3, 4, 5, 6, 8, 10].find((n) => n * ten >= part), scale = HEIGHT / 4 / step;
		buckets.forEach((bucket, i) => of(bucket).reduce((top, n, s) => {
			if (n) lines[s] += `M${i * each} ${top}v${-n * scale}h${each * 0.85}V${top}z`;
			return top - n * scale;
		}, HEIGHT));
		paths.forEach((path, s) => setAttr(path, "d", lines[s]));
		[buckets.length - 1, cursor].forEach((i, n) => {
			setAttr(bands[n], "d", `M${(i + 0.5) * each} 0v${HEIGHT}`);
			setAttr(bands[n], "stroke-width", each);
		});
		[...y.children].forEach((span, n) => setText(span, brief((4 - n) * step)));
		[...x.children].forEach((span, n) => setText(span, when(buckets[n * buckets.length / 6], false)));
		const peak = buckets[totals.indexOf(most)], here = buckets[cursor], { span_s: s } = peak;
		const [unit, unit_s] = s < 3600 ? ["min", 60] : s < 86_400 ? ["h", 3600] : ["day", 86_400];
		const sentence = most ? t("chart_sentence",
			{ label, total: text(sum(totals)), peak: brief(most * unit_s / s), unit, at: when(peak) }) : `${label}: –`;
		setAttr(pic, "aria-label", sentence);
		setText(readout, here ? texts(here).map((each, n) => `${heads[n]} ${each}`).join(" · ") : sentence);
		if (details.open) table.fill(buckets.map((bucket) => [bucket.start, texts(bucket)]).reverse());
	}
	details.ontoggle = draw;

	/** What the keys lead to is spoken, what the feed changes is not. */
	function point(index, live = "off") {
		cursor = index;
		setAttr(readout, "aria-live", live);
		draw();
	}
	pic.onpointermove = ({ clientX }) => {
		const { left, width } = pic.getBoundingClientRect();
		point(Math.floor((clientX - left) / width * buckets.length));
	};
	pic.onpointerleave = () => point(-1);
	pic.onkeydown = ({ key }) => {
		const by = { ArrowLeft: -1, ArrowRight: 1 }[key], end = buckets.length - 1;
		if (by) point(cursor < 0 ? end : Math.min(end, Math.max(0, cursor + by)), "polite");
	};

	return {
		el: h("figure.chart", keys, y, pic, x, readout, details),
		/** All buckets, oldest first. */
		patch(all) {
			buckets = all;
			point(cursor);
		},
	};
}
