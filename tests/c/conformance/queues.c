/* Steps on the queues of a pool: added, changed, read, paused. */
#include "world.h"

static const char *const limits[] = {"limit", "key_limit", "key_capacity"};

static bool do_queue(act *a, duly_pool *pool, const char *name) {
    duly_queue_options options = DULY_QUEUE_OPTIONS_INIT;
    duly_queue *queue = NULL;
    const char *overflow = text(a, "overflow", ""), *expect = text(a, "expect", "ok");
    options.name = name;
    options.capacity = (uint32_t)number(a, "capacity", 0);
    options.max_blocked_producers = none_or_more(a, "max_blocked_producers");
    options.weight = (uint32_t)number(a, "weight", 0);
    options.limit = (uint32_t)number(a, "limit", 0);
    options.key_limit = (uint32_t)number(a, "key_limit", 0);
    options.key_capacity = (uint32_t)number(a, "key_capacity", 0);
    options.overflow = policy_of(overflow);
    duly_status status = duly_pool_add_queue(pool, &options, &queue);
    if (status != DULY_STATUS_OK)
        return answered(a, status, expect);
    if (!same_text(a, "the name", duly_queue_name(queue), name) || !add(a->w, &a->w->queues, name, queue)) {
        duly_queue_release(queue);
        return wrong(a, "there are two queues %s", name);
    }
    return answered(a, status, expect);
}

static duly_status set_limit(duly_queue *queue, const char *which, uint32_t most) {
    return is(which, "limit")       ? duly_queue_set_limit(queue, most)
           : is(which, "key_limit") ? duly_queue_set_key_limit(queue, most)
                                    : duly_queue_set_key_capacity(queue, most);
}

static bool do_set_queue(act *a, duly_queue *queue) {
    const field *capacity = get(a, "capacity", NUMBER), *weight = get(a, "weight", NUMBER);
    const field *unlimited = get(a, "unlimited", LIST);
    const char *expect = text(a, "expect", "ok");
    duly_status status = DULY_STATUS_OK;
    if (capacity)
        status = duly_queue_set_capacity(queue, (uint32_t)capacity->number);
    if (status == DULY_STATUS_OK && weight)
        status = duly_queue_set_weight(queue, (uint32_t)weight->number);
    for (size_t i = 0; i < 3 && status == DULY_STATUS_OK; i++) {
        const field *most = get(a, limits[i], NUMBER);
        if (most)
            status = set_limit(queue, limits[i], (uint32_t)most->number);
    }
    for (long long i = 0; unlimited && i < unlimited->number && status == DULY_STATUS_OK; i++)
        status = set_limit(queue, unlimited->list[i], 0);
    return answered(a, status, expect);
}

static bool look_at_numbers(act *a, void *queue) {
    duly_queue_numbers is_now = {0};
    duly_status status = duly_queue_stats(queue, &is_now, sizeof is_now);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"submitted", is_now.submitted},
                   {"queued", is_now.queued},
                   {"running", is_now.running},
                   {"blocked_producers", is_now.blocked_producers}};
    bool same = answered(a, status, "ok");
    for (size_t i = 0; i < 4; i++) {
        const field *f = get(a, numbers[i].key, NUMBER);
        if (f && same)
            same = same_number(a, numbers[i].key, (long long)numbers[i].value, f->number);
    }
    const field *paused = get(a, "paused", FLAG);
    return same && (!paused || same_number(a, "paused", (long long)is_now.paused, paused->number));
}

bool step_on_queue(act *a, const char *verb, bool *good) {
    static const char *const verbs[] = {"queue", "set_queue", "queue_stats", "pause_queue", "resume_queue", NULL};
    if (!one_of(verb, verbs))
        return false;
    const char *name = text(a, "queue", "");
    duly_pool *pool = pool_of(a->w, text(a, "pool", "pool"));
    duly_queue *queue = is(verb, "queue") ? NULL : queue_of(a->w, pool, name);
    if (is(verb, "queue"))
        *good = do_queue(a, pool, name);
    else if (queue == NULL)
        *good = wrong(a, "there is no queue %s", name);
    else if (is(verb, "set_queue"))
        *good = do_set_queue(a, queue);
    else if (is(verb, "queue_stats"))
        *good = settle(a, look_at_numbers, queue);
    else
        *good = answered(a, is(verb, "pause_queue") ? duly_queue_pause(queue) : duly_queue_resume(queue), "ok");
    duly_queue_release(queue);
    duly_pool_release(pool);
    return true;
}
