// @ts-check
/** How a chart is pointed at: by mouse, finger and keys. A mouse zooms to what it drags over; a finger reads out. */

/**
 * @typedef {object} Pointed What is pointed at.
 * @property {number} cursor the bar, or -1
 * @property {number} dragged the bar at which the mouse went down, or -1
 * @property {{start: number, span_s: number}[]} bars
 * @property {(bar: number, live?: "off" | "polite") => void} point
 * @property {(part: [from_s: number, to_s: number] | null) => void} zoom
 * @property {() => void} open shows what is behind the bar at the cursor
 */

/**
 * @param {SVGElement} picture
 * @param {Pointed} chart
 */
export function listen(picture, chart) {
	/** @param {PointerEvent} event */
	function barAt({ clientX }) {
		const { left, width } = picture.getBoundingClientRect();
		const size = chart.bars.length;
		return Math.min(size - 1, Math.max(0, Math.floor((clientX - left) / width * size)));
	}

	function endDrag() {
		const [from, to] = [chart.dragged, chart.cursor].sort((a, b) => a - b);
		chart.dragged = -1;
		if (from === to) chart.open();
		else if (from >= 0) chart.zoom([chart.bars[from].start, chart.bars[to].start + chart.bars[to].span_s]);
	}

	picture.onpointerdown = (event) => {
		if (event.pointerType !== "touch" && event.button === 0) {
			picture.setPointerCapture(event.pointerId);
			chart.dragged = barAt(event);
		}
		chart.point(barAt(event));
	};
	picture.onpointermove = (event) => chart.point(barAt(event));
	picture.onpointerup = () => {
		if (chart.dragged >= 0) endDrag();
	};
	picture.onpointercancel = () => {
		chart.dragged = -1;
		chart.point(-1);
	};
	// What a finger has touched stays readable when it is lifted.
	picture.onpointerleave = ({ pointerType }) => {
		if (pointerType !== "touch" && chart.dragged < 0) chart.point(-1);
	};
	picture.onblur = () => chart.point(-1);
	picture.onkeydown = ({ key }) => {
		if (key === "Enter") chart.open();
		if (key === "Escape") chart.zoom(null);
		const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
		const end = chart.bars.length - 1;
		// It begins at the newest bar.
		if (by) chart.point(chart.cursor < 0 ? end : Math.min(end, Math.max(0, chart.cursor + by)), "polite");
	};
}
