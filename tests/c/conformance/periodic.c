/* Steps on periodic tasks: begun, read, ended. One record each: every run counts its start there. */
#include "world.h"

static bool begin(act *a, duly_pool *pool, submit_options *each) {
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_periodic *periodic = NULL;
    const char *name = text(a, "periodic", ""), *missed = text(a, "missed", "skip");
    const char *expect = text(a, "expect", "accepted");
    callback c;
    if (!read_callback(a, &c))
        return false;
    options.period_ns = (uint64_t)number(a, "period_ms", 0) * MS;
    options.max_failures = (uint64_t)number(a, "max_failures", 0);
    options.flags = (is(missed, "catch_up") ? DULY_PERIODIC_CATCH_UP : 0) |
                    (flag(a, "overlap", false) ? DULY_PERIODIC_OVERLAP : 0);
    options.task = &each->task;
    record *r = add_record(a->w, name);
    if (r == NULL)
        return wrong(a, "there are two %s", name);
    captured *data = capture(a->w, r, text(a, "pool", "pool"), c);
    duly_status status = duly_pool_every(pool, &options, perform, data, drop_captured, &periodic);
    if (status == DULY_STATUS_OK) {
        add(a->w, &a->w->periodics, name, periodic);
        return same_text(a, "the answer", "accepted", expect);
    }
    bool whole = same_number(a, "the number of starts of a refused callback", r->starts, 0) &&
                 same_number(a, "the number of releases of a refused callback", r->drops, 0);
    if (whole) {
        free(data);
        free(take(a->w, &a->w->records, name));
    }
    return whole && answered(a, status, expect);
}

static bool do_every(act *a) {
    duly_pool *pool = pool_of(a->w, text(a, "pool", "pool"));
    submit_options each;
    if (pool == NULL)
        return wrong(a, "there is no such pool");
    bool good = read_options(a, pool, &each) && begin(a, pool, &each);
    let_go(&each);
    duly_pool_release(pool);
    return good;
}

static bool at_least(act *a, const char *key, uint64_t got) {
    const field *f = get(a, key, NUMBER);
    return !f || got >= (uint64_t)f->number ||
           wrong(a, "%s: it is %llu, expected %lld", key, (unsigned long long)got, f->number);
}

static bool exactly(act *a, const char *key, uint64_t got) {
    const field *f = get(a, key, NUMBER);
    return !f || same_number(a, key, (long long)got, f->number);
}

static bool look_at_numbers(act *a, void *periodic) {
    duly_periodic_numbers now = {0};
    duly_status status = duly_periodic_stats(periodic, &now, sizeof now);
    const bool all[] = {exactly(a, "active", now.active),         exactly(a, "failures", now.failures),
                        at_least(a, "missed_at_least", now.missed), exactly(a, "missed", now.missed),
                        at_least(a, "runs_at_least", now.runs),   exactly(a, "runs", now.runs)};
    bool good = answered(a, status, "ok");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        good = good && all[i];
    return good;
}

static bool do_wait(act *a, duly_periodic *periodic) {
    static const char *const ends[] = {"", "cancelled", "shut_down", "failed"};
    int32_t end = 0;
    uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    const char *expect = text(a, "expect", "");
    duly_status status = duly_periodic_wait(periodic, timeout, &end);
    if (status != DULY_STATUS_OK)
        return answered(a, status, expect);
    return same_text(a, "the end", end > 0 && end < 4 ? ends[end] : "unknown", expect);
}

bool step_on_periodic(act *a, const char *verb, bool *good) {
    static const char *const verbs[] = {"periodic_stats", "cancel_periodic", "wait_periodic", "drop_periodic", NULL};
    if (is(verb, "every")) {
        *good = do_every(a);
        return true;
    }
    if (!one_of(verb, verbs))
        return false;
    const char *name = text(a, "periodic", "");
    duly_periodic *periodic = is(verb, "drop_periodic") ? take(a->w, &a->w->periodics, name) : periodic_of(a->w, name);
    if (periodic == NULL) {
        *good = wrong(a, "there is no periodic task %s", name);
    } else if (is(verb, "periodic_stats")) {
        *good = settle(a, look_at_numbers, periodic);
    } else if (is(verb, "wait_periodic")) {
        *good = do_wait(a, periodic);
    } else if (is(verb, "cancel_periodic")) {
        const char *expect = text(a, "expect", NULL);
        duly_status status = duly_periodic_cancel(periodic);
        const char *answer = status == DULY_STATUS_OK ? "decided" : duly_status_name(status);
        *good = same_text(a, "the answer", answer, expect ? expect : is(answer, "decided") ? "decided" : "ended");
    } else {
        *good = true;
    }
    duly_periodic_release(periodic);
    return true;
}
