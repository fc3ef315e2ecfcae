// @ts-check
/** In which order a table has its rows. */

/** Orders texts as people do: "team-2" before "team-10". */
export const natural = new Intl.Collator("en", { numeric: true }).compare;

/** What "-name" asks for: a column's key, and whether backwards. @param {string} sort */
export function direction(sort) {
	const descending = sort.startsWith("-");
	return { key: descending ? sort.slice(1) : sort, descending };
}

/**
 * The items in order of `by`, those without a value last; equal ones, or all without `by`, in the `usual` order.
 * @template Item
 * @param {Item[]} items
 * @param {((item: Item) => any) | undefined} by
 * @param {boolean} descending
 * @param {(a: Item, b: Item) => number} usual
 */
export function sorted(items, by, descending, usual) {
	const way = descending ? -1 : 1;
	return items.toSorted((a, b) => {
		const x = by?.(a);
		const y = by?.(b);
		if ((x == null) !== (y == null)) return x == null ? 1 : -1;
		return way * compare(x, y) || usual(a, b);
	});
}

/**
 * @param {any} x
 * @param {any} y
 */
function compare(x, y) {
	if (typeof x === "string" && typeof y === "string") return natural(x, y);
	return Number(x > y) - Number(x < y);
}

/**
 * The ids of `wanted` in the order that they have; a new one behind the one that it is to follow.
 * @param {string[]} order
 * @param {string[]} wanted
 */
export function calm(order, wanted) {
	const still = new Set(wanted);
	const had = new Set(order);
	const result = order.filter((id) => still.has(id));
	wanted.forEach((id, at) => {
		if (!had.has(id)) result.splice(result.indexOf(wanted[at - 1]) + 1, 0, id);
	});
	return result;
}
