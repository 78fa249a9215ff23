/* Steps on cancellation tokens. */
#include "world.h"

static bool do_token(act *a, const char *name) {
    const char *parent_name = text(a, "parent", NULL);
    const field *timeout = get(a, "timeout_ms", NUMBER);
    duly_token *parent = NULL, *token = NULL;
    if (parent_name && (parent = token_of(a->w, parent_name)) == NULL)
        return wrong(a, "there is no token %s", parent_name);
    duly_status status = timeout ? duly_token_with_timeout(parent, (uint64_t)timeout->number * MS, &token)
                         : parent ? duly_token_child(parent, &token)
                                  : duly_token_new(&token);
    duly_token_release(parent);
    if (!answered(a, status, "ok"))
        return false;
    if (add(a->w, &a->w->tokens, name, token))
        return true;
    duly_token_release(token);
    return wrong(a, "there are two tokens %s", name);
}

bool step_on_token(act *a, const char *verb, bool *good) {
    char name[NAME];
    if (!is(verb, "token") && !is(verb, "cancel_token") && !is(verb, "token_state"))
        return false;
    numbered(a, text(a, "token", ""), name);
    if (is(verb, "token")) {
        *good = do_token(a, name);
        return true;
    }
    duly_token *token = token_of(a->w, name);
    if (token == NULL) {
        *good = wrong(a, "there is no token %s", name);
    } else if (is(verb, "cancel_token")) {
        const char *reason = text(a, "reason", NULL);
        *good = answered(a, reason ? duly_token_cancel_with(token, reason) : duly_token_cancel(token), "ok");
    } else {
        const char *state = duly_token_is_cancelled(token) ? "cancelled" : "live";
        *good = same_text(a, "the token", state, text(a, "expect", ""));
    }
    duly_token_release(token);
    return true;
}
