/** The page's texts. */
import assert from "node:assert/strict";
import { test } from "node:test";

import first from "../../static/js/strings.en.js";
import more from "../../static/js/strings.more.en.js";
import { addTexts, t } from "../../static/js/texts.js";

test("a text is found by its key", () => assert.equal(t("sign_in"), "Sign in"));
test("its places are filled", () => assert.equal(t("selected", { n: 3 }), "3 selected"));
test("a place without a value is empty", () => assert.equal(t("search_in"), "Search "));
test("one is said otherwise than many", () =>
	assert.deepEqual([1, 2].map((n) => t("live_again", { n })), ["Live again · 1 change applied", "Live again · 2 changes applied"]));
test("what nobody knows stands for itself", () => assert.equal(t("news"), "news"));
test("texts can be added", () => {
	addTexts(more);
	assert.equal(t("cancel"), "Cancel");
});
test("no text is there twice", () =>
	assert.deepEqual(Object.keys(first).filter((key) => key in more), []));
test("every text for one has its text for many", () => {
	const keys = Object.keys({ ...first, ...more });
	const lonely = keys.filter((key) => key.endsWith("_one") && !keys.includes(key.replace(/one$/, "other")));
	assert.deepEqual(lonely, []);
});
