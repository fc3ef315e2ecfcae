// @ts-check
/** Controls that a phone keeps behind one button. With more room they stand in the open: see the style sheet. */
import { h, setAttr } from "../dom.js";

/** @import { Child } from "../dom.js" */
/** @import { Translate } from "../types.js" */

const ID = "filters";

/**
 * The button and what it unfolds; `mark` shows on the button whether a control in there has an effect.
 * @param {Translate} t
 * @param {...Child} controls
 */
export function folded(t, ...controls) {
	const button = h("button.folds", { "aria-expanded": "false", "aria-controls": ID }, t("filters"));
	button.onclick = () => {
		button.ariaExpanded = String(button.ariaExpanded === "false");
	};
	return {
		els: [button, h("div.folded", { id: ID }, controls)],
		mark: (/** @type {boolean} */ on) => setAttr(button, "data-on", on),
	};
}
