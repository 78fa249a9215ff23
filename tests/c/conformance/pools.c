/* Steps on pools: made, read, closed, shut down; their hooks, threads and signals. */
#include "world.h"

#include <dirent.h>

static const char *const hook_names[HOOKS] = {"", "worker_start", "worker_stop", "late", "stalled", "unobserved"};

static void told(void *data, const duly_event *event) {
    hook_counts *counts = data;
    if (event->kind > 0 && event->kind < HOOKS)
        atomic_fetch_add(&counts->counts[event->kind], 1);
}

static bool do_pool(act *a) {
    static const char *const ways[] = {"", "eager", "on_demand"};
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    const char *name = text(a, "pool", "pool");
    const char *expect = text(a, "expect", "ok");
    const char *overflow = text(a, "overflow", "");
    const char *threads = text(a, "threads", "");
    options.name = text(a, "name", NULL);
    options.workers = (uint32_t)number(a, "workers", 0);
    options.capacity = (uint32_t)number(a, "capacity", 0);
    options.max_blocked_producers = none_or_more(a, "max_blocked_producers");
    options.max_replacements = none_or_more(a, "max_replacements");
    options.overflow = policy_of(overflow);
    options.threads = -1;
    for (int32_t i = 0; i < 3; i++)
        if (is(threads, ways[i]))
            options.threads = i;
    options.replace_after_ns = span(a, "replace_after_ms");
    options.default_timeout_ns = span(a, "default_timeout_ms");
    options.drop_drain_ns = span(a, "drop_drain_ms");
    options.stack_size = (uint64_t)number(a, "stack_size", 0);
    hook_counts *counts = grab(sizeof *counts);
    counts->holders = 2;
    options.hook = told;
    options.hook_data = counts;
    options.hook_drop = let_hooks_go;
    duly_status status = duly_pool_new(&options, &pool);
    if (status != DULY_STATUS_OK) {
        free(counts);
        return answered(a, status, expect);
    }
    if (!add(a->w, &a->w->pools, name, pool))
        return wrong(a, "there are two pools %s", name);
    free(take(a->w, &a->w->pool_names, name));
    hook_counts *before = take(a->w, &a->w->hooks, name);
    if (before != NULL)
        let_hooks_go(before);
    add(a->w, &a->w->pool_names, name, strdup(options.name ? options.name : "duly"));
    add(a->w, &a->w->hooks, name, counts);
    return answered(a, status, expect);
}

static const char *abandoned_label(const void *of, size_t index) {
    return duly_report_abandoned_label(of, index);
}

static bool do_shutdown(act *a, duly_pool *pool) {
    duly_report *report = NULL;
    duly_stats stats = {0};
    const field *drained = get(a, "drained", FLAG);
    const field *abandoned = get(a, "abandoned", LIST);
    const field *left = get(a, "threads_left", NUMBER);
    duly_status status = duly_pool_shutdown(pool, (uint64_t)number(a, "drain_ms", 0) * MS, &report);
    bool good = answered(a, status, "ok");
    duly_report_stats(report, &stats, sizeof stats);
    if (good && drained)
        good = same_number(a, "drained", duly_report_drained(report), drained->number);
    if (good && abandoned)
        good = same_labels(a, duly_report_abandoned_count(report), abandoned_label, report, abandoned);
    if (good && left)
        good = same_number(a, "threads_left", (long long)duly_report_threads_left(report), left->number);
    good = good && same_counters(a, &stats);
    duly_report_release(report);
    return good;
}

static bool look_at_stats(act *a, void *pool) {
    duly_stats stats = {0};
    duly_pool_stats(pool, &stats, sizeof stats);
    return same_counters(a, &stats);
}

static const char *leak_label(const void *of, size_t index) {
    return duly_leaks_label(of, index);
}

/* Which of the two lists is looked at, and of which pool. */
typedef struct {
    duly_pool *pool;
    bool running;
} list;

static bool look_at_list(act *a, void *of) {
    const list *wanted = of;
    const field *labels = get(a, "labels", LIST);
    duly_leaks *leaks = NULL;
    duly_status status = wanted->running ? duly_pool_running(wanted->pool, &leaks) : duly_pool_leaks(wanted->pool, &leaks);
    bool same = labels == NULL ? wrong(a, "no labels")
                               : answered(a, status, "ok") &&
                                     same_labels(a, duly_leaks_count(leaks), leak_label, leaks, labels);
    duly_leaks_release(leaks);
    return same;
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

static bool look_at_threads(act *a, void *prefix) {
    return same_number(a, "the number of threads", threads_named(prefix), number(a, "count", 0));
}

static bool look_at_hook(act *a, void *of) {
    hook_counts *counts = of;
    const char *name = text(a, "hook", "");
    for (int kind = 1; kind < HOOKS; kind++)
        if (is(name, hook_names[kind]))
            return same_number(a, name, counts->counts[kind], number(a, "count", 0));
    return wrong(a, "there is no hook %s", name);
}

static bool look_whether_closed(act *a, void *pool) {
    return same_text(a, "closed", duly_pool_is_closed(pool) ? "yes" : "no", text(a, "expect", "yes"));
}

/* The signals of a step; how many, or 0 when there is an unknown one. */
static size_t signals_of(act *a, int out[8]) {
    const field *f = get(a, "signals", LIST);
    size_t count = 0;
    for (long long i = 0; f != NULL && i < f->number && count < 8; i++) {
        if (!is(f->list[i], "user1") && !is(f->list[i], "user2"))
            return 0;
        out[count++] = is(f->list[i], "user1") ? SIGUSR1 : SIGUSR2;
    }
    return count;
}

static bool do_cancel_on(act *a) {
    duly_token *token = NULL;
    int signals[8];
    size_t count = signals_of(a, signals);
    const char *name = text(a, "token", "");
    if (!answered(a, duly_token_new(&token), "ok"))
        return false;
    if (!add(a->w, &a->w->tokens, name, token)) {
        duly_token_release(token);
        return wrong(a, "there are two tokens %s", name);
    }
    return answered(a, duly_token_cancel_on(token, signals, count), "ok");
}

static bool do_raise(act *a) {
    const char *name = text(a, "signal", "");
    if (!is(name, "user1") && !is(name, "user2"))
        return wrong(a, "there is no signal %s", name);
    return same_number(a, "kill", kill(getpid(), is(name, "user1") ? SIGUSR1 : SIGUSR2), 0);
}

static bool of_pool(act *a, const char *verb) {
    const char *name = text(a, "pool", "pool");
    duly_pool *pool = pool_of(a->w, name);
    int signals[8];
    if (pool == NULL)
        return wrong(a, "there is no pool %s", name);
    bool good;
    if (is(verb, "close")) {
        good = answered(a, duly_pool_close(pool), "ok");
    } else if (is(verb, "shutdown")) {
        good = do_shutdown(a, pool);
    } else if (is(verb, "stats")) {
        good = settle(a, look_at_stats, pool);
    } else if (is(verb, "leaks") || is(verb, "running")) {
        good = settle(a, look_at_list, &(list){pool, is(verb, "running")});
    } else if (is(verb, "threads")) {
        char prefix[NAME];
        snprintf(prefix, sizeof prefix, "%s-", (char *)look_up(a->w, &a->w->pool_names, name));
        good = settle(a, look_at_threads, prefix);
    } else if (is(verb, "hook")) {
        good = settle(a, look_at_hook, look_up(a->w, &a->w->hooks, name));
    } else if (is(verb, "set_workers")) {
        uint32_t count = (uint32_t)number(a, "count", 0);
        good = answered(a, duly_pool_set_workers(pool, count), text(a, "expect", "ok"));
    } else if (is(verb, "shut_down_on")) {
        size_t count = signals_of(a, signals);
        uint64_t grace = (uint64_t)number(a, "grace_ms", 0) * MS;
        good = (count > 0 || wrong(a, "no signals")) &&
               answered(a, duly_pool_shutdown_on(pool, signals, count, grace), "ok");
    } else if (is(verb, "closed")) {
        good = is(text(a, "expect", "yes"), "no") ? look_whether_closed(a, pool) : settle(a, look_whether_closed, pool);
    } else {
        good = answered(a, is(verb, "pause_pool") ? duly_pool_pause(pool) : duly_pool_resume(pool), "ok");
    }
    duly_pool_release(pool);
    return good;
}

bool step_on_pool(act *a, const char *verb, bool *good) {
    static const char *const verbs[] = {"close",       "shutdown",   "stats",       "leaks",        "running", "threads", "hook",
                                        "set_workers", "pause_pool", "resume_pool", "shut_down_on", "closed",  NULL};
    if (is(verb, "pool")) {
        *good = do_pool(a);
    } else if (is(verb, "cancel_on")) {
        *good = do_cancel_on(a);
    } else if (is(verb, "raise")) {
        *good = do_raise(a);
    } else if (is(verb, "drop_pool")) {
        duly_pool *pool = take(a->w, &a->w->pools, text(a, "pool", "pool"));
        duly_pool_release(pool);
        *good = pool != NULL || wrong(a, "there is no such pool");
    } else if (one_of(verb, verbs)) {
        *good = of_pool(a, verb);
    } else {
        return false;
    }
    return true;
}
