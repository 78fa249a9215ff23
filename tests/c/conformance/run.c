/* Runs the conformance table in C, by the rules of tests/conformance/README.md: one line a case, "ok NAME", "FAILED NAME:
 * step N: why", or "SKIPPED NAME: why"; a case of wrong.toml is ok when it fails at the step it names.
 * Keeps true: every wait has an end, a case that hangs fails and the others go on; an unknown step, word or field is a
 * failure; nothing of a case outlives it unless it failed (then what its callbacks may still use is left alone). */
#include "world.h"

enum { RUNNERS = 4 };

/* A step on a thread of its own. */
typedef struct {
    act a;
    pthread_t id;
    bool held;
    atomic_bool done;
} step_thread;

static bool perform_step(act *a, const char *verb) {
    bool good = false;
    if (step_on_pool(a, verb, &good) || step_on_queue(a, verb, &good) || step_on_task(a, verb, &good) ||
        step_on_periodic(a, verb, &good) || step_on_token(a, verb, &good) || step_on_group(a, verb, &good) ||
        step_on_stream(a, verb, &good) || step_on_flight(a, verb, &good))
        return good;
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

static bool do_step(act *a, size_t index) {
    const char *name = text(a, "thread", NULL), *child = text(a, "child", NULL), *verb = text(a, "do", "");
    if (is(verb, "fork"))
        return fork_child(a, index, do_step) && all_used(a);
    if (is(verb, "join")) {
        uint64_t start = now_ns();
        if (name == NULL && child == NULL)
            return wrong(a, "nothing to join");
        return (child ? join_child(a, child) : join(a, name)) && in_time(a, start) && all_used(a);
    }
    if (name == NULL)
        return timed(a);
    step_thread *thread = grab(sizeof *thread);
    thread->a = *a;
    if (pthread_create(&thread->id, NULL, on_thread, thread) != 0)
        return wrong(a, "no thread");
    return add(a->w, &a->w->threads, name, thread) || wrong(a, "there are two threads %s", name);
}

static void release_queue(void *queue) {
    duly_queue_release(queue);
}

static void release_periodic(void *periodic) {
    duly_periodic_release(periodic);
}

static void release_group(void *group) {
    duly_group_release(group);
}

static void release_token(void *token) {
    duly_token_release(token);
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
    while (w->children != NULL) {
        char name[NAME];
        snprintf(name, NAME, "%s", w->children->name);
        if (!join_child(a, name))
            return false;
    }
    forget(&w->streams, leave_stream);
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
    if (!end_calls(a))
        return false;
    forget(&w->flights, release_flight);
    forget(&w->groups, release_group);
    duly_completions_release(w->completions);
    w->completions = NULL;
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
    forget(&w->queues, release_queue);
    forget(&w->periodics, release_periodic);
    forget(&w->tokens, release_token);
    return true;
}

static size_t step_number(const world *w, size_t index) {
    return index + 1 > w->one->set_up ? index + 1 - w->one->set_up : 0;
}

/* In C a task is awaited by a completion queue, which its submit names. */
static bool awaits(const conformance_case *one) {
    for (size_t i = 0; i < one->count; i++)
        for (size_t f = 0; f < one->steps[i].count; f++) {
            const field *at = &one->steps[i].fields[f];
            if (is(at->key, "do") && is(at->text, "wait_async"))
                return true;
        }
    return false;
}

static void *run_case(void *data) {
    world *w = data;
    if (awaits(w->one) && duly_completions_new(1000, &w->completions) != DULY_STATUS_OK)
        abort();
    for (size_t i = 0; i < w->one->count && !w->failed; i++) {
        act a = {.w = w, .s = &w->one->steps[i], .repetition = -1};
        const char *verb = text(&a, "do", "");
        /* Steps of a child are the child's. */
        if (text(&a, "child", NULL) != NULL && !is(verb, "fork") && !is(verb, "join"))
            continue;
        if (!do_step(&a, i)) {
            w->failed = true;
            w->failed_at = a.failed_at ? a.failed_at : step_number(w, i);
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
        forget(&w->records, free);
        forget(&w->gates, free);
        forget(&w->marks, free);
        forget(&w->pool_names, free);
        forget(&w->hooks, let_hooks_go);
        free(w->order);
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
