/* Steps on tasks: submitted, waited for, looked at, cancelled; and in which order callbacks were started. */
#include <poll.h>

#include "world.h"

bool read_options(act *a, duly_pool *pool, submit_options *options) {
    const duly_task_options defaults = DULY_TASK_OPTIONS_INIT;
    const char *label = text(a, "label", NULL), *queue = text(a, "queue", NULL), *token = text(a, "token", NULL);
    options->task = defaults;
    options->token = NULL;
    options->queue = NULL;
    options->task.label = label ? numbered(a, label, options->label) : NULL;
    options->task.timeout_ns = span(a, "timeout_ms");
    options->task.delay_ns = span(a, "delay_ms");
    if (token != NULL && (options->token = token_of(a->w, token)) == NULL)
        return wrong(a, "there is no token %s", token);
    if (queue != NULL && (options->queue = queue_of(a->w, pool, queue)) == NULL)
        return wrong(a, "there is no queue %s", queue);
    options->task.token = options->token;
    options->task.queue = options->queue;
    return true;
}

void let_go(submit_options *options) {
    duly_token_release(options->token);
    duly_queue_release(options->queue);
}

static bool submit_with(act *a, duly_pool *pool, submit_options *options, bool wait) {
    char name[NAME];
    const char *odd = text(a, "timeout", NULL), *key = text(a, "key", NULL);
    const char *expect = text(a, "expect", "accepted"), *in_group = text(a, "group", NULL);
    const char *overflow = text(a, "overflow", NULL);
    callback c;
    if (!read_callback(a, &c))
        return false;
    numbered(a, text(a, "task", ""), name);
    options->task.submit_timeout_ns = span(a, "submit_timeout_ms");
    options->task.key = key;
    options->task.key_size = key ? strlen(key) : 0;
    if (overflow && (options->task.overflow = policy_of(overflow)) < 0)
        return wrong(a, "there is no overflow policy %s", overflow);
    if (odd && !is(odd, "longest"))
        return wrong(a, "there is no timeout %s in C", odd);
    if (odd)
        options->task.timeout_ns = DULY_FOREVER - 1;
    record *r = add_record(a->w, name);
    if (r == NULL)
        return wrong(a, "there are two tasks %s", name);
    options->task.completions = a->w->completions;
    options->task.tag = (uintptr_t)r;
    captured *data = capture(a->w, r, text(a, "pool", "pool"), c);
    duly_run_fn run = is(c.run, "null") ? NULL : perform;
    duly_task *task = NULL;
    duly_group *group = in_group ? group_of(a->w, in_group) : NULL;
    if (in_group != NULL && group == NULL)
        return wrong(a, "there is no group %s", in_group);
    duly_status status =
        group  ? (wait ? duly_group_submit : duly_group_try_submit)(group, &options->task, run, data, drop_captured, &task)
        : wait ? duly_submit(pool, &options->task, run, data, drop_captured, &task)
               : duly_try_submit(pool, &options->task, run, data, drop_captured, &task);
    duly_group_release(group);
    if (status == DULY_STATUS_OK) {
        atomic_store(&r->task, task);
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

static bool do_submit(act *a, bool wait) {
    const char *name = text(a, "pool", "pool");
    duly_pool *pool = pool_of(a->w, name);
    submit_options options;
    if (pool == NULL)
        return wrong(a, "there is no pool %s", name);
    bool good = read_options(a, pool, &options) && submit_with(a, pool, &options, wait);
    let_go(&options);
    duly_pool_release(pool);
    return good;
}

static bool same_reason(act *a, const char *got, const char *wanted) {
    if (is(wanted, "signal") && strncmp(got, "signal ", 7) == 0)
        return true;
    return same_text(a, "the reason", got, wanted);
}

static bool do_wait(act *a, record *r, duly_task *task) {
    uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    const char *expect = text(a, "expect", "");
    const field *value = get(a, "value", NUMBER), *code = get(a, "code", NUMBER);
    const field *least = get(a, "value_at_least", NUMBER), *most = get(a, "value_at_most", NUMBER);
    const char *message = text(a, "message", NULL), *reason = text(a, "reason", NULL);
    duly_outcome outcome = 0;
    void *taken = NULL;
    duly_status status = duly_task_wait(task, timeout, &outcome);
    if (status != DULY_STATUS_OK)
        return answered(a, status, expect);
    if (!saw(a, r, outcome))
        return false;
    if (outcome == DULY_SUCCEEDED && (status = duly_task_take(task, &taken)) != DULY_STATUS_OK)
        return answered(a, status, expect);
    if (!same_text(a, "the outcome", duly_outcome_name(outcome), expect))
        return false;
    long long got = (long long)(intptr_t)taken;
    if (value && !same_number(a, "the value", got, value->number))
        return false;
    if ((least && got < least->number) || (most && got > most->number))
        return wrong(a, "the value is %lld, out of bounds", got);
    if (code && !same_number(a, "the code", duly_task_code(task), code->number))
        return false;
    if (message && strstr(duly_task_message(task), message) == NULL)
        return wrong(a, "the message is \"%s\", expected \"%s\" in it", duly_task_message(task), message);
    return !reason || same_reason(a, duly_task_reason(task), reason);
}

/* Until its completion comes: by the descriptor, as an event loop waits. Others that come are noted. */
static bool await_completion(act *a, record *r) {
    const uint64_t until = now_ns() + START;
    struct pollfd entry = {-1, POLLIN, 0};
    if (!answered(a, duly_completions_fd(a->w->completions, &entry.fd), "ok"))
        return false;
    while (r->delivered == 0 && now_ns() < until) {
        duly_completion taken[8];
        size_t count = 0;
        /* Another thread of the case may take it first. */
        if (poll(&entry, 1, 10) < 1 || duly_completions_take(a->w->completions, 0, taken, 8, &count) != DULY_STATUS_OK)
            continue;
        for (size_t i = 0; i < count; i++) {
            atomic_store(&((record *)(uintptr_t)taken[i].tag)->delivered, taken[i].outcome);
            duly_task_release(taken[i].task);
        }
    }
    return r->delivered != 0 || wrong(a, "no completion has come");
}

/* What the completion says is what the handle says. */
static bool wait_async(act *a, record *r, duly_task *task) {
    return await_completion(a, r) && saw(a, r, r->delivered) && do_wait(a, r, task);
}

static bool do_outcome(act *a, record *r, duly_task *task) {
    duly_outcome outcome = 0;
    duly_status status = duly_task_outcome(task, &outcome);
    const char *expect = text(a, "expect", "");
    if (status != DULY_STATUS_OK)
        return same_text(a, "the outcome", duly_status_name(status), expect);
    return saw(a, r, outcome) && same_text(a, "the outcome", duly_outcome_name(outcome), expect);
}

static bool do_cancel(act *a, duly_task *task) {
    const char *reason = text(a, "reason", NULL), *expect = text(a, "expect", NULL);
    duly_status status = reason ? duly_task_cancel_with(task, reason) : duly_task_cancel(task);
    const char *answer = status == DULY_STATUS_OK ? "decided" : duly_status_name(status);
    return same_text(a, "the answer", answer, expect ? expect : is(answer, "decided") ? "decided" : "ended");
}

static bool do_released(act *a, duly_task *task) {
    uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    const char *expect = text(a, "expect", "yes");
    duly_status status = duly_task_wait_released(task, timeout);
    return same_text(a, "released", status == DULY_STATUS_OK ? "yes" : "no", expect);
}

static void note_completion(void *noted, duly_outcome outcome) {
    atomic_store(&((record *)noted)->completed, outcome);
}

/* Waits for what a callback or a hook notes in a record. */
static bool await_note(act *a, const char *what, const _Atomic(duly_outcome) *note) {
    uint64_t until = now_ns() + START;
    while (*note == 0 && now_ns() < until)
        pause_ns(MS);
    return same_text(a, what, *note == 0 ? "not told" : duly_outcome_name(*note), text(a, "expect", ""));
}

static bool await_start(act *a, const char *name) {
    uint64_t until = now_ns() + START;
    for (;;) {
        record *r = look_up(a->w, &a->w->records, name);
        if (r != NULL && r->starts > 0)
            return true;
        if (now_ns() > until)
            return wrong(a, "the callback has not started");
        pause_ns(MS);
    }
}

static duly_task *drop_task(world *w, record *r) {
    pthread_mutex_lock(&w->lock);
    duly_task *task = atomic_exchange(&r->task, NULL);
    pthread_mutex_unlock(&w->lock);
    return task;
}

static bool of_task(act *a, const char *verb) {
    char name[NAME];
    numbered(a, text(a, "task", ""), name);
    if (is(verb, "await_start"))
        return await_start(a, name);
    record *r = look_up(a->w, &a->w->records, name);
    if (r == NULL)
        return wrong(a, "there is no task %s", name);
    if (is(verb, "started"))
        return same_number(a, "the number of starts", r->starts, number(a, "count", 0));
    if (is(verb, "drops"))
        return await_drops(a, r, number(a, "count", 0));
    if (is(verb, "cause"))
        return await_note(a, "the cause", &r->cause);
    if (is(verb, "completed"))
        return await_note(a, "the completion", &r->completed);
    duly_task *task = is(verb, "drop_task") ? drop_task(a->w, r) : task_of(a->w, name);
    if (task == NULL)
        return wrong(a, "there is no handle of the task %s", name);
    bool good = is(verb, "drop_task")     ? true
                : is(verb, "wait")        ? do_wait(a, r, task)
                : is(verb, "wait_async")  ? wait_async(a, r, task)
                : is(verb, "outcome")     ? do_outcome(a, r, task)
                : is(verb, "cancel")      ? do_cancel(a, task)
                : is(verb, "on_complete") ? answered(a, duly_task_on_complete(task, note_completion, r, NULL), "ok")
                                          : do_released(a, task);
    duly_task_release(task);
    return good;
}

/* ---- starts ---- */

static bool in_list(const field *list, const char *name) {
    for (long long i = 0; i < list->number; i++)
        if (is(list->list[i], name))
            return true;
    return false;
}

static bool look_at_order(act *a, void *of) {
    const field *wanted = of;
    world *w = a->w;
    long long at = 0;
    bool same = true;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->started && same; i++)
        if (in_list(wanted, w->order[i])) {
            same = at < wanted->number && is(wanted->list[at], w->order[i]);
            if (!same)
                wrong(a, "number %lld to start was %s", at + 1, w->order[i]);
            at++;
        }
    pthread_mutex_unlock(&w->lock);
    return same && same_number(a, "the number of starts", at, wanted->number);
}

static bool of_first(act *a) {
    world *w = a->w;
    const char *task = text(a, "task", "");
    size_t first = (size_t)number(a, "of_first", 0), length = strlen(task);
    long long is_so_many = 0, least = number(a, "at_least", 0), most = number(a, "at_most", 0);
    uint64_t until = now_ns() + START;
    for (bool there = false; !there;) {
        pthread_mutex_lock(&w->lock);
        there = w->started >= first;
        for (size_t i = 0; there && i < first; i++) {
            const char *name = w->order[i], *dot = strrchr(name, '.');
            size_t stem = dot ? (size_t)(dot - name) : strlen(name);
            is_so_many += stem == length && strncmp(name, task, length) == 0;
        }
        pthread_mutex_unlock(&w->lock);
        if (!there && now_ns() > until)
            return wrong(a, "fewer than %zu callbacks have started", first);
        if (!there)
            pause_ns(MS);
    }
    return (is_so_many >= least && is_so_many <= most) ||
           wrong(a, "%lld of the first %zu starts are of %s, expected %lld to %lld", is_so_many, first, task, least, most);
}

static bool do_order(act *a) {
    const field *wanted = get(a, "tasks", LIST);
    uint64_t until = now_ns() + START;
    if (wanted == NULL)
        return wrong(a, "no tasks");
    while (!look_at_order(a, (void *)(uintptr_t)wanted)) {
        if (now_ns() > until)
            return false;
        pause_ns(MS);
    }
    return true;
}

bool step_on_task(act *a, const char *verb, bool *good) {
    static const char *const verbs[] = {"await_start", "started", "drops",     "drop_task", "wait",  "outcome",
                                        "cancel",      "cause",   "completed", "released",  "on_complete", "wait_async", NULL};
    if (is(verb, "submit") || is(verb, "try_submit"))
        *good = do_submit(a, is(verb, "submit"));
    else if (is(verb, "order"))
        *good = do_order(a);
    else if (is(verb, "share"))
        *good = of_first(a);
    else if (one_of(verb, verbs))
        *good = of_task(a, verb);
    else
        return false;
    return true;
}
