/* Runs the conformance table in C, by the rules of tests/conformance/README.md: one line a case, "ok NAME", "FAILED NAME:
 * step N: why", or "SKIPPED NAME: why"; a case of wrong.toml is ok when it fails at the step it names.
 * Keeps true: every wait has an end, a case that hangs fails and the others go on; an unknown step, word or field is a
 * failure; nothing of a case outlives it unless it failed (then what its callbacks may still use is left alone). */
#include "conformance.h"

#include <dirent.h>
#include <stdarg.h>

#include "check.h"

enum { NAME = 160, WHAT = 400, RUNNERS = 4 };
#define START (10 * DULY_SECOND)
#define SETTLE (5 * DULY_SECOND)
#define THREAD (20 * DULY_SECOND)
#define CASE (60 * DULY_SECOND)

/* What is known about a task. */
typedef struct {
    atomic_int starts;
    atomic_int drops;
    _Atomic(duly_task *) task;
    /* The outcome that a step saw; it stays. */
    _Atomic(duly_outcome) seen;
} record;

typedef struct named {
    struct named *next;
    char name[NAME];
    void *thing;
} named;

typedef struct {
    const conformance_case *one;
    pthread_mutex_t lock;
    named *pools, *pool_names, *records, *gates, *marks, *threads;
    bool all_open;
    atomic_bool done;
    bool failed;
    size_t failed_at;
    char what[WHAT];
} world;

/* A step being done once: what it needs to read its fields, and where it says what is wrong. */
typedef struct {
    world *w;
    const step *s;
    uint64_t used;
    long long repetition;
    char what[WHAT];
} act;

/* A step on a thread of its own. */
typedef struct {
    act a;
    pthread_t id;
    bool held;
    atomic_bool done;
} step_thread;

static bool __attribute__((format(printf, 2, 3))) wrong(act *a, const char *words, ...) {
    va_list values;
    va_start(values, words);
    vsnprintf(a->what, sizeof a->what, words, values);
    va_end(values);
    return false;
}

static void *grab(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL)
        abort();
    return memory;
}

/* ---- fields ---- */

static const field *get(act *a, const char *key, field_type type) {
    for (size_t i = 0; i < a->s->count; i++)
        if (strcmp(a->s->fields[i].key, key) == 0 && a->s->fields[i].type == type) {
            a->used |= UINT64_C(1) << i;
            return &a->s->fields[i];
        }
    return NULL;
}

static const char *text(act *a, const char *key, const char *otherwise) {
    const field *f = get(a, key, TEXT);
    return f ? f->text : otherwise;
}

static long long number(act *a, const char *key, long long otherwise) {
    const field *f = get(a, key, NUMBER);
    return f ? f->number : otherwise;
}

/* Milliseconds of a field as an option's nanoseconds, where 0 means the default: a given 0 is the shortest span. */
static uint64_t span(act *a, const char *key) {
    const field *f = get(a, key, NUMBER);
    return !f ? 0 : f->number ? (uint64_t)f->number * MS : 1;
}

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* The name of the task, with the number of the repetition. */
static const char *numbered(const act *a, const char *name, char out[NAME]) {
    if (a->repetition < 0)
        snprintf(out, NAME, "%s", name);
    else
        snprintf(out, NAME, "%s.%lld", name, a->repetition);
    return out;
}

/* ---- names of the world ---- */

static named *find(named *list, const char *name) {
    while (list != NULL && !is(list->name, name))
        list = list->next;
    return list;
}

static void *look_up(world *w, named **list, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(*list, name);
    void *thing = found ? found->thing : NULL;
    pthread_mutex_unlock(&w->lock);
    return thing;
}

/* False when the name is there already. */
static bool add(world *w, named **list, const char *name, void *thing) {
    pthread_mutex_lock(&w->lock);
    bool fresh = find(*list, name) == NULL;
    if (fresh) {
        named *entry = grab(sizeof *entry);
        snprintf(entry->name, NAME, "%s", name);
        entry->thing = thing;
        entry->next = *list;
        *list = entry;
    }
    pthread_mutex_unlock(&w->lock);
    return fresh;
}

static void *take(world *w, named **list, const char *name) {
    void *thing = NULL;
    pthread_mutex_lock(&w->lock);
    for (named **at = list; *at != NULL; at = &(*at)->next)
        if (is((*at)->name, name)) {
            named *entry = *at;
            *at = entry->next;
            thing = entry->thing;
            free(entry);
            break;
        }
    pthread_mutex_unlock(&w->lock);
    return thing;
}

static void forget(named **list, bool things) {
    while (*list != NULL) {
        named *entry = *list;
        *list = entry->next;
        if (things)
            free(entry->thing);
        free(entry);
    }
}

static gate *gate_of(world *w, const char *name) {
    gate *door = look_up(w, &w->gates, name);
    if (door == NULL) {
        static const gate closed = GATE_INIT;
        gate *fresh = grab(sizeof *fresh);
        *fresh = closed;
        if (!add(w, &w->gates, name, fresh))
            free(fresh);
        door = look_up(w, &w->gates, name);
    }
    pthread_mutex_lock(&w->lock);
    bool open = w->all_open;
    pthread_mutex_unlock(&w->lock);
    if (open)
        gate_open(door);
    return door;
}

static void open_all(world *w) {
    pthread_mutex_lock(&w->lock);
    w->all_open = true;
    for (named *at = w->gates; at != NULL; at = at->next)
        gate_open(at->thing);
    pthread_mutex_unlock(&w->lock);
}

/* A reference of the caller's own, NULL when there is no such pool. */
static duly_pool *pool_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->pools, name);
    duly_pool *pool = found ? duly_pool_retain(found->thing) : NULL;
    pthread_mutex_unlock(&w->lock);
    return pool;
}

/* A reference of the caller's own, NULL when there is no handle of such a task. */
static duly_task *task_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->records, name);
    duly_task *task = found ? duly_task_retain(((record *)found->thing)->task) : NULL;
    pthread_mutex_unlock(&w->lock);
    return task;
}

static duly_task *drop_task(world *w, record *r) {
    pthread_mutex_lock(&w->lock);
    duly_task *task = atomic_exchange(&r->task, NULL);
    pthread_mutex_unlock(&w->lock);
    return task;
}

/* ---- callbacks ---- */

typedef struct {
    const char *run, *message, *gate, *target, *inner, *inner_run;
    long long value, code, ms;
    bool detached;
} callback;

/* The captured data of a callback. */
typedef struct {
    world *w;
    record *r;
    const char *pool;
    callback c;
} captured;

static void drop_captured(void *data) {
    captured *me = data;
    atomic_fetch_add(&me->r->drops, 1);
    free(me);
}

static int32_t perform(void *data, duly_call *call);

static captured *capture(world *w, record *r, const char *pool, callback c) {
    captured *me = grab(sizeof *me);
    *me = (captured){w, r, pool, c};
    return me;
}

static int32_t submit_inner(captured *me, duly_call *call) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    callback c = me->c;
    record *r = grab(sizeof *r);
    duly_pool *pool = pool_of(me->w, me->pool);
    c.run = me->c.inner_run;
    captured *inner = capture(me->w, r, me->pool, c);
    options.flags = me->c.detached ? DULY_TASK_DETACHED : 0;
    if (!add(me->w, &me->w->records, me->c.inner, r))
        abort();
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

static int32_t perform(void *data, duly_call *call) {
    captured *me = data;
    const callback *c = &me->c;
    long long value = c->value;
    atomic_fetch_add(&me->r->starts, 1);
    if (is(c->run, "fail")) {
        duly_call_set_message(call, c->message);
        return (int32_t)c->code;
    } else if (is(c->run, "sleep")) {
        pause_ns((uint64_t)c->ms * MS);
    } else if (is(c->run, "block")) {
        run_gate(gate_of(me->w, c->gate), call);
    } else if (is(c->run, "poll")) {
        uint64_t until = now_ns() + 30 * DULY_SECOND;
        while (!duly_call_is_cancelled(call)) {
            if (now_ns() > until)
                return 99;
            pause_ns(MS);
        }
    } else if (is(c->run, "time_left")) {
        uint64_t left = duly_call_time_left(call);
        value = left == DULY_FOREVER || left / MS > INT32_MAX ? INT32_MAX : (long long)(left / MS);
    } else if (is(c->run, "submit")) {
        int32_t code = submit_inner(me, call);
        if (code != 0)
            return code;
        value = 0;
    } else if (is(c->run, "wait")) {
        duly_task *task = task_of(me->w, c->target);
        void *taken = NULL;
        bool got = duly_task_wait(task, START, NULL) == DULY_STATUS_OK && duly_task_take(task, &taken) == DULY_STATUS_OK;
        duly_task_release(task);
        if (!got)
            return 3;
        value = (long long)(intptr_t)taken;
    } else if (is(c->run, "cancel")) {
        duly_task *task = task_of(me->w, c->target);
        if (task == NULL)
            return 3;
        value = duly_task_cancel(task) == DULY_STATUS_OK;
        duly_task_release(task);
    } else if (!is(c->run, "return")) {
        duly_pool *pool = pool_of(me->w, me->pool);
        duly_stats stats = {0};
        if (is(c->run, "close"))
            value = duly_pool_close(pool);
        else if (is(c->run, "shutdown"))
            value = duly_pool_shutdown(pool, (uint64_t)c->ms * MS, NULL) != DULY_STATUS_OK;
        else if (is(c->run, "stats"))
            value = duly_pool_stats(pool, &stats, sizeof stats) ? -1 : (long long)stats.running;
        duly_pool_release(pool);
    }
    duly_call_set_value(call, (void *)(intptr_t)value, NULL);
    return 0;
}

/* The callback a step asks for; reads the fields that belong to it and no others. */
static bool read_callback(act *a, callback *c) {
    *c = (callback){.run = text(a, "run", "")};
    const char *run = c->run;
    bool inner = is(run, "submit");
    if (inner) {
        static const char *const allowed[] = {"return", "sleep", "block", "poll", "time_left"};
        bool known = false;
        const field *detached = get(a, "inner_detached", FLAG);
        c->inner = text(a, "inner", NULL);
        c->inner_run = text(a, "inner_run", "return");
        c->detached = detached && detached->number;
        for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
            known |= is(c->inner_run, allowed[i]);
        if (c->inner == NULL || !known)
            return wrong(a, "no inner callback");
        run = c->inner_run;
    }
    if (is(run, "return") || is(run, "sleep") || is(run, "block") || is(run, "poll"))
        c->value = number(a, "value", 0);
    if (is(run, "sleep"))
        c->ms = number(a, "ms", 0);
    if (is(run, "block") && (c->gate = text(a, "gate", NULL)) == NULL)
        return wrong(a, "the gate is missing");
    if (is(run, "fail")) {
        c->code = number(a, "code", 1);
        c->message = text(a, "message", "failed");
    }
    if ((is(run, "wait") || is(run, "cancel")) && (c->target = text(a, "target", NULL)) == NULL)
        return wrong(a, "the target is missing");
    if (is(run, "shutdown"))
        c->ms = number(a, "ms", 1000);
    static const char *const all[] = {"return", "fail",   "sleep", "block",    "poll",  "time_left",
                                      "submit", "wait", "cancel", "close", "shutdown", "stats", "null"};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (is(c->run, all[i]))
            return true;
    return wrong(a, "there is no callback %s in C", c->run);
}

/* ---- comparing ---- */

static bool same_text(act *a, const char *what, const char *got, const char *wanted) {
    return is(got, wanted) || wrong(a, "%s is %s, expected %s", what, got, wanted);
}

static bool same_number(act *a, const char *what, long long got, long long wanted) {
    return got == wanted || wrong(a, "%s is %lld, expected %lld", what, got, wanted);
}

static const struct {
    const char *name;
    size_t offset;
} counters[] = {
#define COUNTER(name) {#name, offsetof(duly_stats, name)}
    COUNTER(submitted), COUNTER(succeeded), COUNTER(failed),   COUNTER(panicked),   COUNTER(cancelled),
    COUNTER(shed),      COUNTER(abandoned), COUNTER(queued),   COUNTER(running),    COUNTER(deadline_exceeded),
    COUNTER(refused),   COUNTER(late),      COUNTER(overdue),  COUNTER(replaced),   COUNTER(stalled),
    COUNTER(workers),   COUNTER(unobserved), COUNTER(blocked_producers),
};

static bool same_counters(act *a, const duly_stats *stats) {
    bool same = true;
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        const field *f = get(a, counters[i].name, NUMBER);
        uint64_t value;
        memcpy(&value, (const char *)stats + counters[i].offset, sizeof value);
        if (f != NULL && same)
            same = same_number(a, counters[i].name, (long long)value, f->number);
    }
    return same;
}

static bool balanced(act *a, const char *what, const duly_stats *stats) {
    return (stats->queued == 0 && stats->running == 0 && duly_stats_balance(stats)) ||
           wrong(a, "%s does not balance: submitted %llu, queued %llu, running %llu", what,
                 (unsigned long long)stats->submitted, (unsigned long long)stats->queued,
                 (unsigned long long)stats->running);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool same_labels(act *a, const duly_report *report, const field *wanted) {
    size_t count = duly_report_abandoned_count(report);
    const char **got = grab((count + 1) * sizeof *got);
    const char **expected = grab((size_t)(wanted->number + 1) * sizeof *expected);
    bool same = same_number(a, "the number of labels", (long long)count, wanted->number);
    for (size_t i = 0; i < count; i++)
        got[i] = duly_report_abandoned_label(report, i);
    for (long long i = 0; i < wanted->number; i++)
        expected[i] = wanted->list[i];
    qsort(got, count, sizeof *got, by_text);
    qsort(expected, (size_t)wanted->number, sizeof *expected, by_text);
    for (size_t i = 0; same && i < count; i++)
        same = same_text(a, "a label", got[i], expected[i]);
    free(got);
    free(expected);
    return same;
}

/* Notes an outcome and holds it against what was seen before. */
static bool saw(act *a, record *r, duly_outcome outcome) {
    duly_outcome before = atomic_exchange(&r->seen, outcome);
    return before == 0 || before == outcome ||
           wrong(a, "it was %s before and is %s now", duly_outcome_name(before), duly_outcome_name(outcome));
}

/* ---- steps on pools ---- */

static bool do_pool(act *a) {
    static const char *const policies[] = {"", "block", "reject", "drop_newest", "drop_oldest", "caller_runs"};
    static const char *const ways[] = {"", "eager", "on_demand"};
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    const char *name = text(a, "pool", "pool");
    const char *expect = text(a, "expect", "ok");
    const char *overflow = text(a, "overflow", "");
    const char *threads = text(a, "threads", "");
    const field *most;
    options.name = text(a, "name", NULL);
    options.workers = (uint32_t)number(a, "workers", 0);
    options.capacity = (uint32_t)number(a, "capacity", 0);
    if ((most = get(a, "max_blocked_producers", NUMBER)))
        options.max_blocked_producers = most->number ? (uint32_t)most->number : DULY_NONE;
    if ((most = get(a, "max_replacements", NUMBER)))
        options.max_replacements = most->number ? (uint32_t)most->number : DULY_NONE;
    options.overflow = options.threads = -1;
    for (int32_t i = 0; i < 6; i++)
        if (is(overflow, policies[i]))
            options.overflow = i;
    for (int32_t i = 0; i < 3; i++)
        if (is(threads, ways[i]))
            options.threads = i;
    options.replace_after_ns = span(a, "replace_after_ms");
    options.default_timeout_ns = span(a, "default_timeout_ms");
    options.drop_drain_ns = span(a, "drop_drain_ms");
    options.stack_size = (uint64_t)number(a, "stack_size", 0);
    duly_status status = duly_pool_new(&options, &pool);
    if (status == DULY_STATUS_OK) {
        if (!add(a->w, &a->w->pools, name, pool))
            return wrong(a, "there are two pools %s", name);
        char *shown = strdup(options.name ? options.name : "duly");
        if (!add(a->w, &a->w->pool_names, name, shown))
            free(shown);
    }
    return same_text(a, "the answer", duly_status_name(status), expect);
}

static bool do_shutdown(act *a, duly_pool *pool) {
    duly_report *report = NULL;
    duly_stats stats = {0};
    const field *drained = get(a, "drained", FLAG);
    const field *abandoned = get(a, "abandoned", LIST);
    const field *left = get(a, "threads_left", NUMBER);
    duly_status status = duly_pool_shutdown(pool, (uint64_t)number(a, "drain_ms", 0) * MS, &report);
    bool good = same_text(a, "the answer", duly_status_name(status), "ok");
    duly_report_stats(report, &stats, sizeof stats);
    if (good && drained)
        good = same_number(a, "drained", duly_report_drained(report), drained->number);
    if (good && abandoned)
        good = same_labels(a, report, abandoned);
    if (good && left)
        good = same_number(a, "threads_left", (long long)duly_report_threads_left(report), left->number);
    good = good && same_counters(a, &stats);
    duly_report_release(report);
    return good;
}

static bool do_stats(act *a, duly_pool *pool) {
    uint64_t until = now_ns() + SETTLE;
    for (;;) {
        duly_stats stats = {0};
        duly_pool_stats(pool, &stats, sizeof stats);
        if (same_counters(a, &stats))
            return true;
        if (now_ns() > until)
            return false;
        pause_ns(MS);
    }
}

static long long threads_named(const char *prefix) {
    DIR *dir = opendir("/proc/self/task");
    long long count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[300], name[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file != NULL) {
            count += fgets(name, sizeof name, file) != NULL && strncmp(name, prefix, strlen(prefix)) == 0;
            fclose(file);
        }
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static bool do_threads(act *a, const char *pool) {
    char prefix[NAME];
    long long wanted = number(a, "count", 0);
    uint64_t until = now_ns() + SETTLE;
    snprintf(prefix, sizeof prefix, "%s-", (char *)look_up(a->w, &a->w->pool_names, pool));
    for (;;) {
        long long got = threads_named(prefix);
        if (got == wanted)
            return true;
        if (now_ns() > until)
            return same_number(a, "the number of threads", got, wanted);
        pause_ns(MS);
    }
}

/* ---- steps on tasks ---- */

static bool do_submit(act *a, duly_pool *pool, const char *pool_name, const char *name, bool wait) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    char label[NAME];
    const char *odd = text(a, "timeout", NULL);
    const char *given = text(a, "label", NULL);
    const char *expect = text(a, "expect", "accepted");
    callback c;
    if (!read_callback(a, &c))
        return false;
    options.label = given ? numbered(a, given, label) : NULL;
    options.timeout_ns = span(a, "timeout_ms");
    options.submit_timeout_ns = span(a, "submit_timeout_ms");
    if (odd && !is(odd, "longest"))
        return wrong(a, "there is no timeout %s in C", odd);
    if (odd)
        options.timeout_ns = DULY_FOREVER - 1;
    record *r = grab(sizeof *r);
    if (!add(a->w, &a->w->records, name, r)) {
        free(r);
        return wrong(a, "there are two tasks %s", name);
    }
    captured *data = capture(a->w, r, pool_name, c);
    duly_run_fn run = is(c.run, "null") ? NULL : perform;
    duly_task *task = NULL;
    duly_status status = wait ? duly_submit(pool, &options, run, data, drop_captured, &task)
                              : duly_try_submit(pool, &options, run, data, drop_captured, &task);
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
    return whole && same_text(a, "the answer", duly_status_name(status), expect);
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
        return same_text(a, "the answer", duly_status_name(status), expect);
    if (!saw(a, r, outcome))
        return false;
    if (outcome == DULY_SUCCEEDED && (status = duly_task_take(task, &taken)) != DULY_STATUS_OK)
        return same_text(a, "the answer", duly_status_name(status), expect);
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
    return !reason || same_text(a, "the reason", duly_task_reason(task), reason);
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

static bool await_drops(act *a, record *r, long long wanted) {
    uint64_t until = now_ns() + SETTLE;
    while (r->drops != wanted && now_ns() < until)
        pause_ns(MS);
    return same_number(a, "the number of releases", r->drops, wanted);
}

static bool of_pool(act *a, const char *verb) {
    const char *name = text(a, "pool", "pool");
    char task[NAME];
    duly_pool *pool = pool_of(a->w, name);
    bool good;
    if (pool == NULL)
        return wrong(a, "there is no pool %s", name);
    if (is(verb, "close"))
        good = same_text(a, "the answer", duly_status_name(duly_pool_close(pool)), "ok");
    else if (is(verb, "shutdown"))
        good = do_shutdown(a, pool);
    else if (is(verb, "stats"))
        good = do_stats(a, pool);
    else if (is(verb, "threads"))
        good = do_threads(a, name);
    else
        good = do_submit(a, pool, name, numbered(a, text(a, "task", ""), task), is(verb, "submit"));
    duly_pool_release(pool);
    return good;
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
    duly_task *task = is(verb, "drop_task") ? drop_task(a->w, r) : task_of(a->w, name);
    if (task == NULL)
        return wrong(a, "there is no handle of the task %s", name);
    bool good = is(verb, "drop_task") || (is(verb, "wait") ? do_wait(a, r, task)
                                      : is(verb, "outcome") ? do_outcome(a, r, task)
                                      : is(verb, "cancel")  ? do_cancel(a, task)
                                                            : do_released(a, task));
    duly_task_release(task);
    return good;
}

static bool one_of(const char *verb, const char *const *verbs) {
    while (*verbs != NULL && !is(*verbs, verb))
        verbs++;
    return *verbs != NULL;
}

static bool perform_step(act *a, const char *verb) {
    static const char *const pools[] = {"close", "shutdown", "stats", "threads", "submit", "try_submit", NULL};
    static const char *const tasks[] = {"await_start", "started", "drops",  "drop_task", "wait",
                                        "outcome",     "cancel",  "released", NULL};
    if (one_of(verb, pools))
        return of_pool(a, verb);
    if (one_of(verb, tasks))
        return of_task(a, verb);
    if (is(verb, "pool"))
        return do_pool(a);
    if (is(verb, "drop_pool")) {
        duly_pool *pool = take(a->w, &a->w->pools, text(a, "pool", "pool"));
        duly_pool_release(pool);
        return pool != NULL || wrong(a, "there is no such pool");
    }
    if (is(verb, "open")) {
        gate_open(gate_of(a->w, text(a, "gate", "")));
        return true;
    }
    if (is(verb, "mark")) {
        uint64_t *mark = grab(sizeof *mark);
        const char *name = text(a, "name", "");
        *mark = now_ns();
        free(take(a->w, &a->w->marks, name));
        return add(a->w, &a->w->marks, name, mark);
    }
    if (is(verb, "pause")) {
        pause_ns((uint64_t)number(a, "ms", 0) * MS);
        return true;
    }
    return wrong(a, "there is no step %s in C", verb);
}

/* ---- running steps: bounds of time, repetitions, threads ---- */

static bool in_time(act *a, uint64_t start) {
    uint64_t now = now_ns();
    const field *least = get(a, "at_least_ms", NUMBER), *most = get(a, "at_most_ms", NUMBER);
    const char *since = text(a, "since", NULL);
    if (since != NULL) {
        uint64_t *mark = look_up(a->w, &a->w->marks, since);
        if (mark == NULL)
            return wrong(a, "there is no mark %s", since);
        start = *mark;
    }
    double took = (double)(now - start) / 1e6;
    if (least && now - start < (uint64_t)least->number * MS)
        return wrong(a, "early: after %.3f ms, not before %lld ms", took, least->number);
    if (most && now - start > (uint64_t)most->number * MS)
        return wrong(a, "late: after %.3f ms, not within %lld ms", took, most->number);
    return true;
}

static bool all_used(act *a) {
    for (size_t i = 0; i < a->s->count; i++)
        if (!(a->used >> i & 1))
            return wrong(a, "unknown field %s", a->s->fields[i].key);
    return true;
}

static bool bounded(act *a) {
    uint64_t start = now_ns();
    const char *verb = text(a, "do", "");
    return perform_step(a, verb) && in_time(a, start) && all_used(a);
}

static bool timed(act *a) {
    const field *times = get(a, "times", NUMBER);
    if (times == NULL)
        return bounded(a);
    for (long long i = 0; i < times->number; i++) {
        a->repetition = i;
        if (!bounded(a))
            return false;
    }
    return true;
}

static void *on_thread(void *data) {
    step_thread *me = data;
    me->held = timed(&me->a);
    atomic_store(&me->done, true);
    return NULL;
}

static bool join(act *a, const char *name) {
    step_thread *thread = take(a->w, &a->w->threads, name);
    uint64_t until = now_ns() + THREAD;
    if (thread == NULL)
        return wrong(a, "there is no thread %s", name);
    while (!thread->done && now_ns() < until)
        pause_ns(MS / 4);
    /* A thread that hangs goes on using what is its own. */
    if (!thread->done)
        return wrong(a, "thread %s hangs", name);
    pthread_join(thread->id, NULL);
    bool held = thread->held || wrong(a, "on thread %s: %.300s", name, thread->a.what);
    free(thread);
    return held;
}

static bool do_step(act *a) {
    const char *name = text(a, "thread", NULL);
    if (name == NULL)
        return timed(a);
    if (is(text(a, "do", ""), "join")) {
        uint64_t start = now_ns();
        return join(a, name) && in_time(a, start) && all_used(a);
    }
    step_thread *thread = grab(sizeof *thread);
    thread->a = *a;
    if (pthread_create(&thread->id, NULL, on_thread, thread) != 0)
        return wrong(a, "no thread");
    return add(a->w, &a->w->threads, name, thread) || wrong(a, "there are two threads %s", name);
}

/* What holds at the end of every case; `passed` says that nothing failed so far. */
static bool end(world *w, act *a, bool passed) {
    duly_stats stats;
    open_all(w);
    while (w->threads != NULL) {
        char name[NAME];
        snprintf(name, NAME, "%s", w->threads->name);
        if (!join(a, name))
            return false;
    }
    for (named *at = w->records; at != NULL; at = at->next) {
        record *r = at->thing;
        duly_outcome outcome = 0;
        if (r->task == NULL)
            continue;
        if (duly_task_wait(r->task, START, &outcome) != DULY_STATUS_OK)
            return wrong(a, "at the end, %s has no outcome", at->name);
        if (!saw(a, r, outcome))
            return false;
    }
    while (w->pools != NULL) {
        duly_pool *pool = take(w, &w->pools, w->pools->name);
        duly_report *report = NULL;
        duly_status status = duly_pool_shutdown(pool, START, &report);
        bool good = same_text(a, "the shutdown at the end", duly_status_name(status), "ok");
        if (good && passed) {
            duly_report_stats(report, &stats, sizeof stats);
            good = balanced(a, "the report at the end", &stats);
            duly_pool_stats(pool, &stats, sizeof stats);
            good = good && balanced(a, "the pool at the end", &stats);
        }
        duly_report_release(report);
        duly_pool_release(pool);
        if (!good)
            return false;
    }
    for (named *at = w->records; at != NULL; at = at->next) {
        record *r = at->thing;
        duly_outcome outcome = 0;
        if (r->task != NULL) {
            if (duly_task_wait_released(r->task, START) != DULY_STATUS_OK)
                return wrong(a, "at the end, %s is not released", at->name);
            if (duly_task_outcome(r->task, &outcome) != DULY_STATUS_OK || !saw(a, r, outcome))
                return wrong(a, "at the end, %s has another outcome", at->name);
        }
        if (!await_drops(a, r, 1))
            return false;
        duly_task_release(r->task);
        r->task = NULL;
    }
    return true;
}

static void *run_case(void *data) {
    world *w = data;
    for (size_t i = 0; i < w->one->count && !w->failed; i++) {
        act a = {.w = w, .s = &w->one->steps[i], .repetition = -1};
        if (!do_step(&a)) {
            w->failed = true;
            w->failed_at = i + 1 > w->one->set_up ? i + 1 - w->one->set_up : 0;
            snprintf(w->what, WHAT, "%s", a.what);
        }
    }
    static const step none = {NULL, 0};
    act a = {.w = w, .s = &none, .repetition = -1};
    if (!end(w, &a, !w->failed) && !w->failed) {
        w->failed = true;
        w->failed_at = SIZE_MAX;
        snprintf(w->what, WHAT, "%s", a.what);
    }
    atomic_store(&w->done, true);
    return NULL;
}

/* ---- all cases, some at a time ---- */

static atomic_size_t next_case;
static atomic_int bad;

static void report(const world *w, bool hung) {
    const conformance_case *one = w->one;
    bool good = one->fails_at ? !hung && w->failed && w->failed_at == one->fails_at : !hung && !w->failed;
    const char *prefix = one->fails_at ? "wrong_" : "";
    if (good)
        printf("ok %s%s\n", prefix, one->name);
    else if (hung)
        printf("FAILED %s%s: it has not ended after 60 s\n", prefix, one->name);
    else if (!w->failed)
        printf("FAILED %s%s: it passed: the runner does not look\n", prefix, one->name);
    else if (w->failed_at == SIZE_MAX)
        printf("FAILED %s%s: %s\n", prefix, one->name, w->what);
    else
        printf("FAILED %s%s: step %zu: %s\n", prefix, one->name, w->failed_at, w->what);
    if (!good)
        atomic_store(&bad, 1);
}

static void *run_cases(void *data) {
    (void)data;
    for (;;) {
        size_t i = atomic_fetch_add(&next_case, 1);
        if (i >= conformance_cases_count + conformance_wrong_count)
            return NULL;
        const conformance_case *one =
            i < conformance_cases_count ? &conformance_cases[i] : &conformance_wrong[i - conformance_cases_count];
        if (one->skipped) {
            printf("SKIPPED %s: %s\n", one->name, one->skipped);
            continue;
        }
        world *w = grab(sizeof *w);
        pthread_t id;
        uint64_t until = now_ns() + CASE;
        w->one = one;
        pthread_mutex_init(&w->lock, NULL);
        if (pthread_create(&id, NULL, run_case, w) != 0)
            abort();
        while (!w->done && now_ns() < until)
            pause_ns(MS / 2);
        bool hung = !w->done;
        report(w, hung);
        if (hung) {
            open_all(w);
            continue;
        }
        pthread_join(id, NULL);
        if (w->failed)
            continue;
        forget(&w->records, true);
        forget(&w->gates, true);
        forget(&w->marks, true);
        forget(&w->pool_names, true);
        pthread_mutex_destroy(&w->lock);
        free(w);
    }
}

int main(void) {
    pthread_t runners[RUNNERS];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < RUNNERS; i++)
        if (pthread_create(&runners[i], NULL, run_cases, NULL) != 0)
            abort();
    for (int i = 0; i < RUNNERS; i++)
        pthread_join(runners[i], NULL);
    return bad;
}
