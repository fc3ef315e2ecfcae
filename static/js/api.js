// @ts-check
/** Calls of the admin API, with the session's cookie. */

/**
 * The `error` of an answer.
 * @typedef {{type: string, message: string, [detail: string]: any}} Details
 */

/** A call that failed: `status` 0 if no answer came. The message has the id by which the log knows the request. */
export class Failure extends Error {
	/**
	 * @param {number} status
	 * @param {Details} details
	 * @param {Headers} [headers]
	 */
	constructor(status, details, headers) {
		const id = headers?.get("x-request-id");
		super(id ? `${details.message} Request id: ${id}` : details.message);
		this.status = status;
		this.details = details;
		this.type = details.type;
		this.retryAfter_s = Number(headers?.get("retry-after"));
	}
}

/**
 * The answer's JSON, or its text. The window gets "signed-out" if there is no session any more. Throws Failure.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {{ifMatch?: string}} [options]
 * @returns {Promise<any>}
 */
export async function api(method, path, body, { ifMatch } = {}) {
	/** @type {Record<string, string>} */
	const headers = { "Content-Type": "application/json" };
	if (ifMatch) headers["If-Match"] = `"${ifMatch}"`;
	const { response, data } = await answer(path, { method, headers, cache: "no-store", body: JSON.stringify(body) });
	if (response.ok) return data;
	if (response.status === 401 && !path.startsWith("api/auth/")) dispatchEvent(new Event("signed-out"));
	const unknown = { type: "http", message: `The server answered ${response.status}.` };
	throw new Failure(response.status, data?.error ?? unknown, response.headers);
}

/**
 * @param {string} path
 * @param {RequestInit} request
 */
async function answer(path, request) {
	try {
		const response = await fetch(new URL(path, document.baseURI), request);
		return { response, data: parsed(await response.text()) };
	} catch {
		throw new Failure(0, { type: "unreachable", message: "The server cannot be reached." });
	}
}

/** The text itself if it is no JSON: CSV, or the error page of a proxy between. @param {string} text */
function parsed(text) {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}
