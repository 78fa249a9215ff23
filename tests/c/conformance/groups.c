/* Steps about several tasks: groups, and waits for any or all. */
#include "world.h"

duly_group *group_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    duly_group *group = NULL;
    for (named *at = w->groups; at != NULL && group == NULL; at = at->next)
        if (is(at->name, name))
            group = duly_group_retain(at->thing);
    pthread_mutex_unlock(&w->lock);
    return group;
}

static bool make_group(act *a, const char *name) {
    duly_group_options options = DULY_GROUP_OPTIONS_INIT;
    const char *pool_name = text(a, "pool", "pool");
    duly_pool *pool = pool_of(a->w, pool_name);
    duly_group *group = NULL;
    options.label = name;
    options.limit = (uint32_t)number(a, "limit", 0);
    options.flags = flag(a, "fail_fast", true) ? 0 : DULY_GROUP_GO_ON;
    bool detach = flag(a, "detach", false);
    if (pool == NULL)
        return wrong(a, "there is no pool %s", pool_name);
    bool good = answered(a, duly_group_new(pool, &options, &group), "ok");
    duly_pool_release(pool);
    if (good && detach)
        good = answered(a, duly_group_detach(group), "ok");
    return good && (add(a->w, &a->w->groups, name, group) || wrong(a, "there are two groups %s", name));
}

static bool look_at_result(act *a, const duly_group_result *result) {
    const field *errors = get(a, "errors", LIST), *cancelled = get(a, "cancelled", NUMBER);
    const char *expect = text(a, "expect", "");
    if (!same_text(a, "the answer", duly_group_result_succeeded(result) ? "ok" : "failed", expect))
        return false;
    if (errors && !same_number(a, "the number of errors", (long long)duly_group_result_error_count(result), errors->number))
        return false;
    for (long long i = 0; errors && i < errors->number; i++) {
        const duly_task *error = duly_group_result_error(result, (size_t)i, NULL);
        if (!same_text(a, "a member with an error", duly_task_label(error), errors->list[i]))
            return false;
    }
    return !cancelled || same_number(a, "how many the group cancelled",
                                     (long long)duly_group_result_cancelled_by_group(result), cancelled->number);
}

static bool wait_for_group(act *a, const char *name) {
    duly_group *group = group_of(a->w, name);
    duly_group_result *result = NULL;
    const uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    if (group == NULL)
        return wrong(a, "there is no group %s", name);
    duly_status status = duly_group_wait(group, timeout, &result);
    duly_group_release(group);
    /* Fields that only a result has. */
    (void)get(a, "errors", LIST);
    (void)get(a, "cancelled", NUMBER);
    if (status != DULY_STATUS_OK)
        return answered(a, status, text(a, "expect", ""));
    bool good = look_at_result(a, result);
    duly_group_result_release(result);
    return good;
}

static bool drop_group(act *a, const char *name) {
    duly_group *group = take(a->w, &a->w->groups, name);
    duly_group_release(group);
    return group != NULL || wrong(a, "there is no group %s", name);
}

static bool wait_any(act *a, const field *list, duly_task *const *tasks, uint64_t timeout) {
    size_t first = 0;
    const char *expect = text(a, "expect", "none");
    duly_status status = duly_wait_any((const duly_task *const *)tasks, (size_t)list->number, timeout, &first);
    if (status != DULY_STATUS_OK && status != DULY_STATUS_TIMED_OUT)
        return answered(a, status, "ok");
    return same_text(a, "the task", status == DULY_STATUS_OK ? list->list[first] : "none", expect);
}

static bool wait_all(act *a, const field *list, duly_task *const *tasks, uint64_t timeout) {
    const field *missing = get(a, "missing", LIST);
    const long long none = missing ? missing->number : 0;
    long long found = 0;
    duly_status status = duly_wait_all((const duly_task *const *)tasks, (size_t)list->number, timeout);
    if (!same_text(a, "the answer", duly_status_name(status), none ? "timed_out" : "ok"))
        return false;
    for (long long i = 0; i < list->number; i++)
        if (duly_task_outcome(tasks[i], NULL) != DULY_STATUS_OK) {
            if (found == none || !is(missing->list[found], list->list[i]))
                return wrong(a, "%s has not ended", list->list[i]);
            found++;
        }
    return same_number(a, "the number of tasks that have not ended", found, none);
}

static bool wait_for_several(act *a, bool all) {
    enum { MOST = 256 };
    const field *list = get(a, "tasks", LIST);
    const uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    duly_task *tasks[MOST] = {NULL};
    long long count = 0;
    bool good = list != NULL && list->number <= MOST;
    for (; good && count < list->number; count++)
        if ((tasks[count] = task_of(a->w, list->list[count])) == NULL)
            good = wrong(a, "there is no handle of the task %s", list->list[count]);
    good = good && (all ? wait_all(a, list, tasks, timeout) : wait_any(a, list, tasks, timeout));
    while (count-- > 0)
        duly_task_release(tasks[count]);
    return good;
}

bool step_on_group(act *a, const char *verb, bool *good) {
    if (is(verb, "group"))
        *good = make_group(a, text(a, "group", ""));
    else if (is(verb, "group_wait"))
        *good = wait_for_group(a, text(a, "group", ""));
    else if (is(verb, "drop_group"))
        *good = drop_group(a, text(a, "group", ""));
    else if (is(verb, "wait_any") || is(verb, "wait_all"))
        *good = wait_for_several(a, is(verb, "wait_all"));
    else
        return false;
    return true;
}
