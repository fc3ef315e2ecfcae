// @ts-check
/** Types for the checker only: nothing loads this file. The wire's messages mirror `handlers/live.py`.
 *
 * @typedef {string} Time RFC 3339, as the server writes it
 *
 * @typedef {object} Usage What was used in the last 24 h.
 * @property {number} requests
 * @property {number} errors
 * @property {number} input_tokens
 * @property {number} output_tokens
 * @property {number} cache_creation_input_tokens
 * @property {number} cache_read_input_tokens
 * @property {number | null} cost_usd null if nothing of it has a price
 * @property {number} unpriced_requests
 *
 * @typedef {object} Turns Counters of conversations, beside those of usage.
 * @property {number} turns_stayed
 * @property {number} turns_moved
 * @property {number} input_tokens
 * @property {number} cache_creation_input_tokens
 * @property {number} cache_read_input_tokens
 *
 * @typedef {"active" | "rate_limited" | "invalid" | "inactive"} AccountStatus
 * @typedef {{window: string, used: number | null, limit: number | null, remaining: number | null,
 *	status: string | null, resets_at: Time | null}} Quota `used` as a part, above 1 if overdrawn; null if unknown
 *
 * @typedef {object} Account
 * @property {string} id
 * @property {string} name
 * @property {"oauth" | "api_key"} type
 * @property {AccountStatus} status
 * @property {string | null} status_reason
 * @property {Time} status_since
 * @property {Time | null} rate_limited_until
 * @property {Time | null} expires_at
 * @property {boolean} refreshing
 * @property {boolean} unchecked whether nothing has shown yet that its key works
 * @property {Time | null} last_refresh_at
 * @property {string | null} last_refresh_error
 * @property {Time | null} last_used_at
 * @property {Time} created_at
 * @property {number} in_flight
 * @property {Usage} day
 * @property {number[]} spark requests, a number for each of the last 60 minutes
 * @property {Quota[]} quota the tightest window first
 * @property {number} priority lower ones are asked first
 * @property {number} weight
 * @property {number} reserve from 0 to 1
 * @property {string[]} tags
 * @property {string} note
 * @property {string | null} proxy its outbound proxy, without the password
 * @property {number} conversations those that had a turn with it lately
 * @property {number} resources files, batches and the like in it
 * @property {number} homes groups of client keys whose home it is
 * @property {number | null} cache_read_share of its input tokens of the last 24 h; null if there were none
 * @property {string | null} organization_name
 * @property {string | null} organization_uuid
 * @property {string} etag
 *
 * @typedef {"active" | "inactive" | "revoked"} KeyStatus
 *
 * @typedef {object} ClientKey
 * @property {string} id
 * @property {string} name
 * @property {string} key its first and last letters; the whole of it only in the answer that made it
 * @property {"user" | "admin" | "metrics"} role
 * @property {KeyStatus} status
 * @property {string | null} group null: a group of its own
 * @property {string[]} tags of the accounts that it may use; none: all of them
 * @property {boolean} declared whether the configuration has it: it cannot be changed here then
 * @property {Time} created_at
 * @property {Time | null} last_used_at
 * @property {Time | null} expires_at
 * @property {Usage} day
 * @property {number[]} spark
 * @property {string[]} models names or patterns of those that it may use; none: all of them
 * @property {{key: string, ends_at: Time, last_used_at: Time | null}[]} former_keys those that it has replaced
 * @property {Record<string, number>} used
 * @property {Record<string, number | null>} limits
 * @property {Meter[]} meters one for each limit
 * @property {string} etag
 *
 * @typedef {"requests_per_minute" | "concurrent_requests" | "tokens_per_day" | "tokens_per_month" | "cost_usd_per_day" |
 *	"cost_usd_per_month"} LimitName
 * @typedef {{limit: LimitName, most: number, used: number, reserved: number, resets_at: Time | null}} Meter `reserved`
 *	is held for requests in flight
 *
 * @typedef {Record<"requests" | "errors" | "input_tokens" | "output_tokens" | "cache_creation_input_tokens" |
 *	"cache_read_input_tokens" | "unpriced_requests", number> & {cost_usd: number | null}} Used
 * @typedef {Used & {id: string | null, name: string | null, buckets?: (Used & {start: Time})[]}} UsageRow
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {string} [name] never there: sessions are called by their id
 * @property {string | null} status
 * @property {string} token_id
 * @property {string | null} account_id
 * @property {string} ip
 * @property {string} user_agent
 * @property {number} requests
 * @property {number} in_flight
 * @property {Time} created_at
 * @property {Time} last_seen_at
 * @property {Time | null} expires_at
 *
 * @typedef {"info" | "warning" | "error"} Level
 *
 * @typedef {object} LoggedEvent
 * @property {number} id
 * @property {Time} at
 * @property {Level} level
 * @property {string} kind
 * @property {string} text
 * @property {(string | {time: Time})[]} [parts] the text, if there are times in it
 * @property {{kind: "admin" | "key" | "system", id: string | null, name: string | null, address: string | null}} actor
 * @property {{kind: "account" | "token" | "session", id: string, name: string | null} | null} subject
 * @property {Record<string, unknown> | null} before
 * @property {Record<string, unknown> | null} after
 * @property {number} [skipped] how many events before this one are missing
 *
 * @typedef {object} Try One exchange of a request with the upstream.
 * @property {string} account_id
 * @property {string} account_name
 * @property {number} status 0 if no answer came
 * @property {string} verdict what it meant, or an error's name; "" if it was cut
 * @property {string | null} failure what the account failed at
 * @property {string} evidence
 * @property {string | null} request_id the upstream's own
 * @property {number} at_ms since the request began
 * @property {number} ms
 *
 * @typedef {"ok" | "client_error" | "limited" | "upstream_error" | "refused" | "aborted"} Outcome
 *
 * @typedef {object} LoggedRequest One that has ended. Counts of tokens are null if nothing was used.
 * @property {number} id its number since the server began
 * @property {string} request_id
 * @property {string | null} upstream_request_id that of the last try
 * @property {Time} at
 * @property {string} key_id
 * @property {string} key_name
 * @property {string | null} session_id
 * @property {string | null} account_id
 * @property {string | null} account_name
 * @property {string | null} model
 * @property {string} method
 * @property {string} path
 * @property {boolean} stream
 * @property {Try[]} tries
 * @property {string | null} why
 * @property {string | null} moved
 * @property {number} status
 * @property {Outcome} outcome
 * @property {"client" | "upstream" | "admin" | "proxy" | "shutdown" | null} cut_by
 * @property {string | null} error
 * @property {string | null} reason what its client was told of that
 * @property {number | null} ttfb_ms
 * @property {number} duration_ms
 * @property {number} answer_bytes
 * @property {number | null} input_tokens
 * @property {number | null} output_tokens
 * @property {number | null} cache_creation_input_tokens
 * @property {number | null} cache_read_input_tokens
 * @property {boolean} estimated
 * @property {number | null} cost_usd null if it has no price
 * @property {number} [skipped] how many requests before this one are missing
 * @property {string} [instance] which one of several it was sent to
 *
 * @typedef {object} Instance One of several processes on one store, as it has told of itself.
 * @property {string} id
 * @property {string} host
 * @property {number} pid
 * @property {number | null} port
 * @property {string} version
 * @property {Time} started_at
 * @property {Time} last_seen_at
 * @property {number} requests_per_s
 * @property {number} streams requests in flight
 * @property {number} cpu a part of one core
 * @property {number | null} lag_ms how long what it tells takes through the store and back
 * @property {boolean} draining
 *
 * @typedef {object} Login An OAuth flow in progress.
 * @property {string} flow_id
 * @property {string} status
 * @property {string} [account_id]
 * @property {string} [error_type]
 * @property {string} [error_message]
 *
 * @typedef {Record<string, number> & {start: number, span_s: number}} Bucket `start` in seconds since the epoch
 *
 * @typedef {"healthy" | "degraded" | "unhealthy"} Verdict
 * @typedef {{status: Verdict, reasons: string[], draining: boolean, insecure: boolean, started_at: Time,
 *	version: string, findings?: number}} Health
 * @typedef {Record<AccountStatus | "total", number> & {next_reset_at: Time | null}} AccountCounts
 * @typedef {{in_flight: number, sessions: number, client_keys: number, since_start: Usage, today: Usage & Turns,
 *	yesterday: Usage, ttfb_ms: Record<"p50" | "p95", number | null>}} Traffic `yesterday` up to this time of that day
 * @typedef {{account_id: string, name: string, window: string, at: Time}} Reset
 * @typedef {{left: number | null, known: number, accounts: number, empty_at: Time | null, resets: Reset[]}} Capacity
 * @typedef {{moved: Record<string, number>, moved_cost_usd: number | null, moved_unpriced: number}} Affinity
 *
 * @typedef {{id: string, name: string}} Named
 * @typedef {Named & {verdict: string, until: Time | null, reason: string | null}} Explanation
 * @typedef {{account: Named | null, why: string | null, held_by: string | null, before: Named | null,
 *	error: {status: number, message: string} | null, accounts: Explanation[]}} Explained
 *
 * @typedef {object} Topics What the server tells of, by topic.
 * @property {Account} accounts
 * @property {ClientKey} tokens
 * @property {Session} sessions
 * @property {LoggedEvent} events
 * @property {LoggedRequest} requests
 * @property {Login} flows
 * @property {Instance} instances none where the state is in files
 * @property {any} stats `health`, `accounts`, `capacity`, `traffic` and `affinity`: Health, AccountCounts, Capacity, Traffic,
 *	Affinity
 *
 * @typedef {Map<string, Set<string>>} Dirty the ids that changed, by topic
 *
 * @typedef {object} View
 * @property {string[]} [topics] those that it needs besides what the frame does
 * @property {(dirty: Dirty) => void} [patch] shows what has changed in the store
 * @property {(now: number) => void} [tick] shows that time has passed: called every second
 *
 * @typedef {(root: HTMLElement, app: App, id?: string) => View | void} Mount What a view's module exports.
 *
 * @typedef {keyof typeof import("./strings.en.js").default} FirstText
 * @typedef {keyof typeof import("./strings.more.en.js").default} LaterText
 * @typedef {FirstText | LaterText} AnyText
 * @typedef {AnyText | (AnyText extends infer Key ? Key extends `${infer Stem}_other` ? Stem : never : never)} TextKey
 * @typedef {(key: TextKey, params?: object) => string} Translate
 *
 * @typedef {object} Toast
 * @property {string} text
 * @property {"ok" | "error"} [kind]
 * @property {(() => void) | false | null} [undo] what its button does
 * @property {string} [label] the text of that button
 *
 * @typedef {{seconds?: boolean, zone?: boolean, now?: number}} ClockOptions `now`: 0 leaves out the day
 *
 * @typedef {object} Settings
 * @property {(key: string, usual?: string) => string} get
 * @property {(key: string, value: string) => void} set
 *
 * @typedef {object} App What every view is handed.
 * @property {import("./store.js").Store} store
 * @property {import("./live.js").Live} live
 * @property {Translate} t
 * @property {Settings} settings
 * @property {(text: string) => void} announce has it read aloud
 * @property {(toast: Toast) => Promise<void>} toast
 * @property {() => number} now the server's time in ms
 * @property {() => boolean} online whether what is shown is up to date
 * @property {typeof import("./api.js").api} api
 * @property {(at: Time | number | null | undefined, options?: ClockOptions) => string} clock
 * @property {(at: Time) => string} day the day of a time, in words
 * @property {(at: Time | null) => string} ago
 * @property {(at: Time | null, past?: "expired" | "resetting") => string} until
 * @property {(at: Time | number) => string} due "in 2h 03m", or "at 14:02 UTC" as settings want it
 * @property {(hash: string) => void} go
 * @property {() => URLSearchParams} query that of the address
 * @property {(changes: Record<string, string | number>) => void} setQuery
 * @property {() => Promise<typeof import("./actions.js")>} actions
 * @property {() => Promise<unknown>} more
 * @property {() => void} enter
 */
export {};
