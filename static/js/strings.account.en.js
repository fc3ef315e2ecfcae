// @ts-check
/** English texts of the dialogs and of one account. */
export default {
  // dialogs
  cancel: "Cancel", close: "Close", type_name: "Type {name} to confirm", mistyped: "That is something else.",
  gone: "Deleted by another admin", failed: "{n} of {of} failed: {text}",
  n_accounts_one: "1 account", n_accounts_other: "{n} accounts", n_sessions_one: "1 session",
  n_sessions_other: "{n} sessions", revoke: "Revoke",
  did_refresh: "{what} refreshed, expires in {left}", did_reactivate: "{what} reactivated",
  did_deactivate: "{what} deactivated", did_delete: "{what} deleted", did_revoke: "{what} revoked",
  did_rename: "'{name}' is called '{to}' now", reversible: "This can be undone.",
  last_active: "No other account is active: clients get errors.",
  delete_effect: "The credentials are erased from this server.",
  delete_running_one: "1 running request may still finish.",
  delete_running_other: "{n} running requests may still finish.",
  delete_move: "Clients move to other accounts.", final: "This cannot be undone.",
  revoke_effect_one: "1 running request is cut.", revoke_effect_other: "{n} running requests are cut.",
  conflict: "Changed by another admin: the name is now '{name}'.", theirs: "Use theirs", overwrite: "Overwrite",
  // wizard
  w_title: "Add account · step {step} of {of}", w_again: "Re-authorise {name} · step {step} of {of}",
  w_how: "How it signs in", w_api_key: "Console API key (recommended)",
  w_oauth: "OAuth login, by your own registration", w_key: "API key",
  w_key_hint: "From the Console; it begins with sk-ant-api.", w_needed: "Please fill this in.",
  w_optional: "Optional: else its e-mail or organisation.", w_link: "Get authorization link",
  w_sign_in: "Open {host}, sign in and press Authorise.", w_open: "Open {host} ↗", w_copy: "Copy link",
  w_copied: "Link copied", w_renew: "New link", w_left: "Link valid for {left}",
  w_waiting: "Waiting for {host} to send you back…", w_paste: "Shown a code instead? Paste it here",
  w_fits: "Looks right: press Finish.", w_finish: "Finish", w_anew: "Get a new link", w_retry: "Try again",
  w_instead: "Re-authorise {name} instead", w_leave: "Stop here?", w_lost: "What you entered is lost.",
  w_stop: "Stop", w_added: "{name} added", w_renewed: "{name} re-authorised",
  w_org: "organisation {organization_name}", w_expires: "token expires in {left}", w_another: "Add another",
  // what a login fails with
  e_code_missing: "Paste the code shown after you authorised. It is one long string, usually with a # in it.",
  e_six_digits: "That looks like the 6-digit e-mail sign-in code. Enter it on {host} first; the code for " +
    "this box comes after you press Authorise.",
  e_state_mismatch: "This code belongs to a different link. Open the link above again and paste the new code.",
  e_flow_expired: "This link expired (valid 10 minutes) or the server restarted.",
  e_invalid_grant: "Claude did not accept the code. Codes work once and only for a few minutes.",
  e_access_denied: "Authorisation was cancelled on {host}. Nothing was added.",
  e_duplicate_org: "This organisation is already added as '{name}'.",
  // one account
  a_title: "Account", a_none: "This account does not exist (any more).", a_type: "Type",
  a_oauth: "OAuth login", a_api_key: "Console API key", a_org: "Organisation", a_refreshed: "Last refresh",
  a_day: "Last 24 h", a_used: "{requests} requests, {errors} errors · {in} tokens in, {out} out · {cost}",
  a_quota: "Quota", a_left: "{name}: {n} % left, resets in {at}", a_created: "Added", a_id: "Id",
  a_usage: "Requests, last 24 h", a_unused: "No requests in the last 24 h.", a_events: "Status and refreshes",
  a_no_events: "Nothing since {at}.", a_sessions: "Sessions on it", a_no_sessions: "No client is on it.",
  a_running_one: "1 request in flight", a_running_other: "{n} requests in flight",
};
