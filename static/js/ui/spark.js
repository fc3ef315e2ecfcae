/** A sparkline, 80×20: an ornament, the number beside it is the text. */
import { setAttr, svg } from "../dom.js";

export function spark() {
  const path = svg("path");
  const box = { viewBox: "0 0 80 20", preserveAspectRatio: "none" };
  const el = svg("svg", { class: "spark", "aria-hidden": "true", ...box }, path);
  function patch(values = []) {
    const top = Math.max(1, ...values);
    const step = 78 / Math.max(1, values.length - 1);
    const point = (value, at) => [1 + at * step, 18.5 - (17 * value) / top].map((n) => n.toFixed(1));
    const points = values.map(point);
    setAttr(path, "d", points.length ? `M${points.join("L")}` : null);
  }
  return { el, patch };
}
