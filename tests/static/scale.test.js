/** The numbers of a chart. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { barPaths, niceStep, rate, stepPath, ticks, timeTicks } from "../../static/js/ui/scale.js";

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

describe("a step line", () => {
	const scale = { width: 100, height: 40, step: 0.25 };

	test("holds from one point to the next", () =>
		assert.equal(stepPath([0, 0.5], scale), "M0.0 40.0H50.0V20.0H100.0"));
	test("has a gap where nothing is known", () =>
		assert.equal(stepPath([1, null, 1, null], scale), "M0.0 0.0H25.0M50.0 0.0H75.0"));
	test("ends at the edges", () =>
		assert.equal(stepPath([0.5, 1, 0], { ...scale, first: -30, each: 60 }), "M0.0 20.0H30.0V0.0H90.0V40.0H100.0"));
	test("has an upper end", () => assert.equal(stepPath([2], scale), "M0.0 0.0H100.0"));
	test("of nothing is none", () => assert.equal(stepPath([null, null], scale), ""));
	test("leaves out what is outside", () =>
		assert.equal(stepPath([1, 0, 1], { ...scale, first: -60, each: 60 }), "M0.0 40.0H60.0V0.0H100.0"));
});

describe("a rate", () => {
	const told = (n, span_s) => [rate(n, span_s).unit, Number(rate(n, span_s).n.toFixed(6))];

	test("of minutes is per minute", () => assert.deepEqual(told(30, 60), ["min", 30]));
	test("of quarters of an hour as well", () => assert.deepEqual(told(30, 900), ["min", 2]));
	test("of little is per hour", () => assert.deepEqual(told(3, 900), ["h", 12]));
	test("of very little is per day", () => assert.deepEqual(told(0.001, 900), ["day", 0.096]));
	test("of hours is per hour", () => assert.deepEqual(told(30, 3600), ["h", 30]));
	test("of two hours as well", () => assert.deepEqual(told(30, 7200), ["h", 15]));
	test("of days is per day", () => assert.deepEqual(told(30, 86_400), ["day", 30]));
	test("is the number times what is told", () => assert.equal(rate(30, 900).per, 1 / 15));
	test("of nothing has a unit as well", () => assert.deepEqual(told(0, 900), ["min", 0]));
});

describe("the labels of the time", () => {
	const at = (time) => Date.parse(time) / 1000;
	const times = (from, to, most, ahead) => timeTicks(at(from), at(to), most, ahead)
		.map((tick) => `${new Date(tick.at * 1000).toISOString().slice(5, 16)}${tick.midnight ? "!" : ""}`);
	const utc = () => 0;

	test("are whole hours of a day, and its midnight", () =>
		assert.deepEqual(times("2026-11-28T15:45:00Z", "2026-11-29T15:45:00Z", 8, utc), ["11-28T18:00", "11-28T21:00",
			"11-29T00:00!", "11-29T03:00", "11-29T06:00", "11-29T09:00", "11-29T12:00", "11-29T15:00"]));
	test("are those of the zone", () =>
		assert.deepEqual(times("2026-11-28T15:45:00Z", "2026-11-29T15:45:00Z", 4, () => 20_700), // Nepal, 5:45 h
			["11-28T18:15!", "11-29T00:15", "11-29T06:15", "11-29T12:15"]));
	test("are every ten minutes of an hour", () =>
		assert.deepEqual(times("2026-11-28T15:41:00Z", "2026-11-28T16:41:00Z", 6, utc), ["11-28T15:50", "11-28T16:00",
			"11-28T16:10", "11-28T16:20", "11-28T16:30", "11-28T16:40"]));
	test("are every twenty minutes if there is room for three", () =>
		assert.deepEqual(times("2026-11-28T15:41:00Z", "2026-11-28T16:41:00Z", 3, utc),
			["11-28T16:00", "11-28T16:20", "11-28T16:40"]));
	test("are midnights of a week, also when clocks are set back or forward", () => {
		const berlin = (set) => (time) => (time < set ? 3600 : 7200);
		assert.deepEqual(times("2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z", 4, berlin(at("2026-03-29T01:00:00Z"))),
			["03-27T23:00!", "03-28T23:00!", "03-29T22:00!", "03-30T22:00!"]);
		const back = (time) => (time < at("2026-10-25T01:00:00Z") ? 7200 : 3600);
		assert.deepEqual(times("2026-10-23T12:00:00Z", "2026-10-27T12:00:00Z", 4, back),
			["10-23T22:00!", "10-24T22:00!", "10-25T23:00!", "10-26T23:00!"]);
	});
	test("are never more than there is room for", () => {
		for (const hours of [0.1, 1, 5, 24, 168, 720]) {
			for (let most = 2; most < 9; most += 1) {
				const found = timeTicks(1000, 1000 + hours * 3600, most, utc);
				assert.ok(found.length <= most + 1, `${hours} h: ${found.length} of ${most}`);
			}
		}
	});
});
