/** A sparkline, 80×20: an ornament, the number beside it is the text. */
import { setAttr, svg } from "../dom.js";

export function spark() {
	const path = svg("path"), box = { viewBox: "0 0 80 20", preserveAspectRatio: "none" };
	let drawn;
	return {
		el: svg("svg", { class: "spark", "aria-hidden": "true", ...box }, path),
		patch(values) {
			if (values === drawn) return;
			drawn = values;
			const top = Math.max(1, ...values), step = 78 / (values.length - 1);
			const points = values.map((n, at) => [1 + at * step, 18.5 - (17 * n) / top].map((x) => x.toFixed(1)));
			setAttr(path, "d", points[1] && `M${points.join("L")}`);
		},
	};
}
