/** A menu at a button, in the top layer: no matter what becomes of the button's row. */
import { h } from "../dom.js";

/** `items` are {value, label} and attributes; resolves with the value chosen, or null. */
export const menu = (button, items) => new Promise((resolve) => {
	let chosen = null;
	const entries = items.map(({ label, ...attrs }) =>
		h("button", { role: "menuitem", tabindex: -1, ...attrs }, label));
	const el = h("div.menu", { role: "menu", popover: "", "aria-label": button.ariaLabel }, entries);
	el.onclick = ({ target }) => {
		if ((chosen = target.value)) el.hidePopover();
	};
	el.onkeydown = (event) => {
		const at = entries.indexOf(document.activeElement);
		const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
		if (event.key === "Tab") el.hidePopover();
		if (to === undefined) return;
		event.preventDefault();
		entries.at(to % entries.length).focus();
	};
	el.ontoggle = ({ newState }) => {
		const open = newState === "open";
		button.popoverTargetElement = open ? el : null; // so its next press closes this one,
		button.onclick = open ? (event) => event.stopPropagation() : null; // and opens no other
		if (open) return entries[0].focus();
		el.remove();
		resolve(chosen);
	};
	document.querySelector("main").append(el);
	el.showPopover({ source: button });
});
