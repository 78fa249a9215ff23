/* Steps about single flight: each caller on a thread of its own, for the call blocks.
 * Keeps true: when the step `call` is over, the caller has joined its key's run, or its callback is submitted. */
#include "world.h"

/* A flight, and the pool its runs go to. */
struct flight {
    duly_flight *flight;
    duly_pool *pool;
};

struct caller {
    world *w;
    duly_flight *flight;
    const char *key;
    duly_task_options options;
    /* Cancelled when the caller leaves; a child of the one it was given. */
    duly_token *token;
    duly_run_fn run;
    captured *data;
    record *r;
    pthread_t thread;
    atomic_bool told;
    duly_status status;
    duly_task *answer;
};

static bool make_flight(act *a, const char *name) {
    duly_flight_options options = DULY_FLIGHT_OPTIONS_INIT;
    const char *pool_name = text(a, "pool", "pool");
    submit_options each;
    struct flight *me = grab(sizeof *me);
    me->pool = pool_of(a->w, pool_name);
    options.handovers = none_or_more(a, "handovers");
    options.flags = flag(a, "retry_failed", false) ? DULY_FLIGHT_RETRY_FAILED : 0;
    options.run = &each.task;
    if (me->pool == NULL)
        return wrong(a, "there is no pool %s", pool_name);
    bool good = read_options(a, me->pool, &each) && answered(a, duly_flight_new(me->pool, &options, &me->flight), "ok");
    let_go(&each);
    return good && (add(a->w, &a->w->flights, name, me) || wrong(a, "there are two flights %s", name));
}

void release_flight(void *flight) {
    struct flight *me = flight;
    duly_flight_release(me->flight);
    duly_pool_release(me->pool);
    free(me);
}

static void *on_caller(void *data) {
    struct caller *me = data;
    me->status = duly_flight_run(me->flight, me->key, strlen(me->key), &me->options, me->run, me->data, drop_captured,
                                 &me->answer);
    if (me->status != DULY_STATUS_OK)
        drop_captured(me->data);
    duly_flight_release(me->flight);
    atomic_store(&me->told, true);
    return NULL;
}

static uint64_t submitted(const duly_pool *pool) {
    duly_stats stats = {0};
    duly_pool_stats(pool, &stats, sizeof stats);
    return stats.submitted + stats.refused;
}

static bool begin_call(act *a, const char *flight_name, const char *name) {
    struct flight *flight = look_up(a->w, &a->w->flights, flight_name);
    struct caller *me = grab(sizeof *me);
    const duly_task_options defaults = DULY_TASK_OPTIONS_INIT;
    const char *under = text(a, "token", NULL);
    callback c;
    me->key = text(a, "key", "");
    me->options = defaults;
    me->options.timeout_ns = span(a, "timeout_ms");
    if (flight == NULL)
        return wrong(a, "there is no flight %s", flight_name);
    if (!read_callback(a, &c))
        return false;
    duly_token *parent = under ? token_of(a->w, under) : NULL;
    if (under != NULL && parent == NULL)
        return wrong(a, "there is no token %s", under);
    bool good = answered(a, parent ? duly_token_child(parent, &me->token) : duly_token_new(&me->token), "ok");
    duly_token_release(parent);
    if (!good || (me->r = add_record(a->w, name)) == NULL)
        return wrong(a, "there are two tasks %s", name);
    me->w = a->w;
    me->flight = duly_flight_retain(flight->flight);
    me->options.token = me->token;
    me->run = perform;
    me->data = capture(a->w, me->r, "pool", c);
    const size_t keys = duly_flight_key_count(flight->flight), callers = duly_flight_caller_count(flight->flight);
    const uint64_t before = submitted(flight->pool), until = now_ns() + START;
    if (!add(a->w, &a->w->callers, name, me) || pthread_create(&me->thread, NULL, on_caller, me) != 0)
        return wrong(a, "no thread for the caller %s", name);
    while (!me->told && now_ns() < until) {
        const bool joined = duly_flight_caller_count(flight->flight) > callers;
        const bool leads = duly_flight_key_count(flight->flight) > keys;
        if (joined && (!leads || submitted(flight->pool) > before))
            return true;
        pause_ns(MS / 4);
    }
    return me->told || wrong(a, "the caller %s has not joined", name);
}

static bool look_at_answer(act *a, struct caller *me) {
    const uint64_t until = now_ns() + (uint64_t)number(a, "timeout_ms", 10000) * MS;
    const char *expect = text(a, "expect", ""), *message = text(a, "message", NULL);
    const field *value = get(a, "value", NUMBER), *code = get(a, "code", NUMBER);
    duly_outcome outcome = 0;
    void *got = NULL;
    while (!me->told && now_ns() < until)
        pause_ns(MS / 4);
    if (!me->told)
        return same_text(a, "the answer", "timed_out", expect);
    if (me->status != DULY_STATUS_OK)
        return answered(a, me->status, expect);
    if (!answered(a, duly_task_outcome(me->answer, &outcome), "ok") ||
        !same_text(a, "the answer", duly_outcome_name(outcome), expect))
        return false;
    if (outcome == DULY_SUCCEEDED && value)
        return answered(a, duly_flight_value(me->answer, &got), "ok") &&
               same_number(a, "the value", (long long)(intptr_t)got, value->number);
    if (code && !same_number(a, "the code", duly_task_code(me->answer), code->number))
        return false;
    return message == NULL || strstr(duly_task_message(me->answer), message) != NULL ||
           wrong(a, "the message is \"%s\", expected \"%s\" in it", duly_task_message(me->answer), message);
}

/* Waits for what the caller is told, and lets it go. */
static bool end_call(act *a, struct caller *me) {
    const uint64_t until = now_ns() + START;
    while (!me->told && now_ns() < until)
        pause_ns(MS / 4);
    /* A caller that hangs goes on using what is its own. */
    if (!me->told)
        return wrong(a, "a caller has no answer");
    pthread_join(me->thread, NULL);
    duly_task_release(me->answer);
    duly_token_release(me->token);
    free(me);
    return true;
}

bool end_calls(act *a) {
    while (a->w->callers != NULL)
        if (!end_call(a, take(a->w, &a->w->callers, a->w->callers->name)))
            return false;
    return true;
}

bool step_on_flight(act *a, const char *verb, bool *good) {
    if (is(verb, "flight")) {
        *good = make_flight(a, text(a, "flight", ""));
        return true;
    }
    if (is(verb, "call")) {
        *good = begin_call(a, text(a, "flight", ""), text(a, "caller", ""));
        return true;
    }
    if (!is(verb, "answer") && !is(verb, "leave"))
        return false;
    const char *name = text(a, "caller", "");
    struct caller *me = is(verb, "leave") ? take(a->w, &a->w->callers, name) : look_up(a->w, &a->w->callers, name);
    *good = me != NULL || wrong(a, "there is no caller %s", name);
    if (*good && is(verb, "leave")) {
        duly_token_cancel(me->token);
        *good = end_call(a, me);
    } else if (*good) {
        *good = look_at_answer(a, me);
    }
    return true;
}
