/** Calls of the admin API, with the session's cookie. */

export class ApiError extends Error {
	/** `status` 0: no answer came. `details` is the whole error of the answer. The message has what to look for in the log. */
	constructor(status, error, headers) {
		const id = headers?.get("x-request-id");
		super(error.message + (id ? ` Request id: ${id}` : ""));
		this.status = status;
		this.type = error.type;
		this.details = error;
		this.retryAfter = Number(headers?.get("retry-after")) || null;
	}
}

/** The answer's JSON, or its text. The window gets "signed-out" where there is no session any more.
 * @param {{ifMatch?: string|null, signal?: AbortSignal}} [options] @returns {Promise<any>} */
export async function api(method, path, body = undefined, { ifMatch, signal } = {}) {
	const headers = { "Content-Type": "application/json" };
	if (ifMatch) headers["If-Match"] = `"${ifMatch}"`;
	const url = new URL(path, document.baseURI);
	let response, data;
	try {
		response = await fetch(url, { method, headers, signal, cache: "no-store", body: JSON.stringify(body) });
		data = await response.text();
	} catch (error) {
		if (signal?.aborted) throw error;
		throw new ApiError(0, { type: "unreachable", message: "The server cannot be reached." });
	}
	try {
		data = JSON.parse(data);
	} catch { /* CSV, or the error page of a proxy between */ }
	if (response.ok) return data;
	if (response.status === 401 && !path.startsWith("api/auth/")) dispatchEvent(new Event("signed-out"));
	const unknown = { type: "http", message: `The server answered ${response.status}.` };
	throw new ApiError(response.status, data?.error ?? unknown, response.headers);
}
