/** The numbers of a chart. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { barPaths, niceStep, rate, ticks } from "../../static/js/ui/scale.js";

describe("the axis", () => {
	for (const [most, step] of [[0, 1], [4, 1], [5, 2], [17, 5], [100, 30], [161, 50], [320, 80], [1000, 300], [2801, 800]]) {
		test(`it reaches ${most} by steps of ${step}`, () => assert.equal(niceStep(most, 4), step));
	}

	test("it reaches what there is, and not much more", () => {
		for (let most = 1; most < 5000; most += 1) {
			const top = 4 * niceStep(most, 1);
			assert.ok(top >= most && top <= 2 * most + 1e-9, `${most} up to ${top}`);
		}
	});

	test("cents have steps of cents", () => assert.equal(niceStep(0, 0.04), 0.01));
	test("it has five labels, from the top down", () => assert.deepEqual(ticks(5), [20, 15, 10, 5, 0]));
});

describe("bars", () => {
	const scale = { width: 100, height: 40, step: 1 };

	test("a number is a bar from the bottom", () =>
		assert.deepEqual(barPaths([[2], [4]], 1, scale), ["M0 40v-20h42.5V40zM50 40v-40h42.5V40z"]));
	test("a second series stands on the first", () =>
		assert.deepEqual(barPaths([[1, 2]], 2, scale), ["M0 40v-10h85V40z", "M0 30v-20h85V30z"]));
	test("nothing has no bar", () => assert.deepEqual(barPaths([[0, 1]], 2, scale), ["", "M0 40v-10h85V40z"]));
});

describe("the peak", () => {
	test("of minutes it is per minute", () => assert.deepEqual(rate(30, 60), { unit: "min", n: 30 }));
	test("of quarters of an hour as well", () => assert.deepEqual(rate(30, 900), { unit: "min", n: 2 }));
	test("of hours it is per hour", () => assert.deepEqual(rate(30, 3600), { unit: "h", n: 30 }));
	test("of six hours as well", () => assert.deepEqual(rate(30, 21_600), { unit: "h", n: 5 }));
	test("of days it is per day", () => assert.deepEqual(rate(30, 86_400), { unit: "day", n: 30 }));
});
