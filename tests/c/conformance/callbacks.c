/* The built-in callbacks of the table, and the data that they hold. */
#include "world.h"

struct captured {
    world *w;
    record *r;
    const char *pool;
    callback c;
};

captured *capture(world *w, record *r, const char *pool, callback c) {
    captured *me = grab(sizeof *me);
    *me = (captured){w, r, pool, c};
    return me;
}

void drop_captured(void *data) {
    captured *me = data;
    atomic_fetch_add(&me->r->drops, 1);
    free(me);
}

static void note_start(captured *me) {
    world *w = me->w;
    pthread_mutex_lock(&w->lock);
    if (w->started == w->room) {
        w->room = w->room ? 2 * w->room : 64;
        w->order = realloc(w->order, w->room * sizeof *w->order);
        if (w->order == NULL)
            abort();
    }
    snprintf(w->order[w->started++], NAME, "%s", me->r->name);
    pthread_mutex_unlock(&w->lock);
    atomic_fetch_add(&me->r->starts, 1);
}

static int32_t submit_inner(captured *me, duly_call *call) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    callback c = me->c;
    record *r = add_record(me->w, me->c.inner);
    duly_pool *pool = pool_of(me->w, me->pool);
    if (r == NULL)
        abort();
    c.run = me->c.inner_run;
    captured *inner = capture(me->w, r, me->pool, c);
    options.flags = me->c.detached ? DULY_TASK_DETACHED : 0;
    duly_status status = duly_submit(pool, &options, perform, inner, drop_captured, &task);
    duly_pool_release(pool);
    if (status == DULY_STATUS_OK) {
        atomic_store(&r->task, task);
        return 0;
    }
    free(inner);
    free(take(me->w, &me->w->records, me->c.inner));
    duly_call_set_message(call, duly_status_name(status));
    return 2;
}

static int32_t poll_until_told(captured *me, duly_call *call) {
    uint64_t until = now_ns() + 30 * DULY_SECOND;
    duly_outcome cause = 0;
    while (!duly_call_is_cancelled(call)) {
        if (now_ns() > until)
            return 99;
        pause_ns(MS);
    }
    if (duly_call_cause(call, &cause) == DULY_STATUS_OK)
        atomic_store(&me->r->cause, cause);
    return 0;
}

static void open_gate(void *door, duly_outcome cause) {
    (void)cause;
    gate_open(door);
}

static int32_t wait_for_target(captured *me, long long *value) {
    duly_task *task = task_of(me->w, me->c.target);
    void *taken = NULL;
    bool got = duly_task_wait(task, START, NULL) == DULY_STATUS_OK && duly_task_take(task, &taken) == DULY_STATUS_OK;
    duly_task_release(task);
    *value = (long long)(intptr_t)taken;
    return got ? 0 : 3;
}

static long long ask_own_pool(captured *me) {
    duly_pool *pool = pool_of(me->w, me->pool);
    const char *run = me->c.run;
    duly_stats stats = {0};
    long long value = me->c.value;
    if (is(run, "close"))
        value = duly_pool_close(pool);
    else if (is(run, "shutdown"))
        value = duly_pool_shutdown(pool, (uint64_t)me->c.ms * MS, NULL) != DULY_STATUS_OK;
    else if (is(run, "stats"))
        value = duly_pool_stats(pool, &stats, sizeof stats) ? -1 : (long long)stats.running;
    duly_pool_release(pool);
    return value;
}

int32_t perform(void *data, duly_call *call) {
    captured *me = data;
    const callback *c = &me->c;
    long long value = c->value;
    int32_t code = 0;
    note_start(me);
    if (is(c->run, "fail")) {
        duly_call_set_message(call, c->message);
        code = (int32_t)c->code;
    } else if (is(c->run, "sleep")) {
        pause_ns((uint64_t)c->ms * MS);
    } else if (is(c->run, "block")) {
        run_gate(gate_of(me->w, c->gate), call);
    } else if (is(c->run, "hook")) {
        gate *door = gate_of(me->w, c->gate);
        code = duly_call_on_cancel(call, open_gate, door, NULL);
        run_gate(door, call);
    } else if (is(c->run, "poll")) {
        code = poll_until_told(me, call);
    } else if (is(c->run, "time_left")) {
        uint64_t left = duly_call_time_left(call);
        value = left == DULY_FOREVER || left / MS > INT32_MAX ? INT32_MAX : (long long)(left / MS);
    } else if (is(c->run, "submit")) {
        code = submit_inner(me, call);
        value = 0;
    } else if (is(c->run, "wait")) {
        code = wait_for_target(me, &value);
    } else if (is(c->run, "cancel")) {
        duly_task *task = task_of(me->w, c->target);
        code = task == NULL ? 3 : 0;
        value = duly_task_cancel(task) == DULY_STATUS_OK;
        duly_task_release(task);
    } else if (!is(c->run, "return")) {
        value = ask_own_pool(me);
    }
    if (code == 0)
        duly_call_set_value(call, (void *)(intptr_t)value, NULL);
    return code;
}

bool read_callback(act *a, callback *c) {
    *c = (callback){.run = text(a, "run", "")};
    const char *run = c->run;
    if (is(run, "submit")) {
        static const char *const allowed[] = {"return", "sleep", "block", "poll", "time_left", NULL};
        c->inner = text(a, "inner", NULL);
        c->inner_run = text(a, "inner_run", "return");
        c->detached = flag(a, "inner_detached", false);
        if (c->inner == NULL || !one_of(c->inner_run, allowed))
            return wrong(a, "no inner callback");
        run = c->inner_run;
    }
    static const char *const with_value[] = {"return", "sleep", "block", "poll", "hook", NULL};
    if (one_of(run, with_value))
        c->value = number(a, "value", 0);
    if (is(run, "sleep"))
        c->ms = number(a, "ms", 0);
    if ((is(run, "block") || is(run, "hook")) && (c->gate = text(a, "gate", NULL)) == NULL)
        return wrong(a, "the gate is missing");
    if (is(run, "fail")) {
        c->code = number(a, "code", 1);
        c->message = text(a, "message", "failed");
    }
    if ((is(run, "wait") || is(run, "cancel")) && (c->target = text(a, "target", NULL)) == NULL)
        return wrong(a, "the target is missing");
    if (is(run, "shutdown"))
        c->ms = number(a, "ms", 1000);
    static const char *const all[] = {"return", "fail",   "sleep",  "block", "hook",     "poll",  "time_left",
                                      "submit", "wait",   "cancel", "close", "shutdown", "stats", "null", NULL};
    return one_of(c->run, all) || wrong(a, "there is no callback %s in C", c->run);
}
