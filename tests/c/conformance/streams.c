/* Steps about streams: a function over an input whose items the runner counts. */
#include "world.h"

/* A stream and its input; what the items' callbacks use is `captured`, and lives as long as they do. */
struct stream {
    duly_stream *stream;
    atomic_llong pulled;
    long long items; /* -1: it never ends */
};

typedef struct {
    world *w;
    record *r;
    const field *blocks, *fails;
    const char *gate;
} item_function;

static bool next_item(void *data, void **item) {
    struct stream *me = data;
    if (me->pulled == me->items)
        return false;
    *item = (void *)(intptr_t)atomic_fetch_add(&me->pulled, 1);
    return true;
}

static bool among(const field *list, long long item, const char *all) {
    char number[32];
    snprintf(number, sizeof number, "%lld", item);
    for (long long i = 0; list && i < list->number; i++)
        if (is(list->list[i], number) || (all && is(list->list[i], all)))
            return true;
    return false;
}

/* Gives the item's number back. */
static int32_t run_item(void *data, void *item, duly_call *call) {
    item_function *me = data;
    const long long which = (long long)(intptr_t)item;
    atomic_fetch_add(&me->r->starts, 1);
    if (among(me->blocks, which, "all"))
        run_gate(gate_of(me->w, me->gate), call);
    if (among(me->fails, which, NULL)) {
        duly_call_set_message(call, "failed");
        return (int32_t)which + 1;
    }
    duly_call_set_value(call, item, NULL);
    return 0;
}

static void drop_function(void *data) {
    item_function *me = data;
    atomic_fetch_add(&me->r->drops, 1);
    free(me);
}

static bool make_stream(act *a, const char *name) {
    duly_stream_options options = DULY_STREAM_OPTIONS_INIT;
    const char *pool_name = text(a, "pool", "pool");
    struct stream *me = grab(sizeof *me);
    item_function *function = grab(sizeof *function);
    submit_options each;
    duly_pool *pool = pool_of(a->w, pool_name);
    options.window = (uint32_t)number(a, "window", 0);
    options.flags = flag(a, "ordered", true) ? 0 : DULY_STREAM_UNORDERED;
    options.task = &each.task;
    me->items = number(a, "items", -1);
    *function = (item_function){a->w, NULL, get(a, "blocks", LIST), get(a, "fails", LIST), text(a, "gate", "")};
    if (pool == NULL)
        return wrong(a, "there is no pool %s", pool_name);
    bool good = read_options(a, pool, &each) &&
                ((function->r = add_record(a->w, name)) != NULL || wrong(a, "there are two tasks %s", name));
    if (good) {
        duly_status status =
            duly_stream_new(pool, &options, next_item, me, NULL, run_item, function, drop_function, &me->stream);
        good = answered(a, status, "ok");
    }
    let_go(&each);
    duly_pool_release(pool);
    return good && (add(a->w, &a->w->streams, name, me) || wrong(a, "there are two streams %s", name));
}

static bool next_answer(act *a, struct stream *me) {
    const uint64_t timeout = (uint64_t)number(a, "timeout_ms", 10000) * MS;
    const char *expect = text(a, "expect", "");
    const field *item = get(a, "item", NUMBER);
    duly_task *answer = NULL;
    duly_outcome outcome = 0;
    void *value = NULL;
    duly_status status = duly_stream_next(me->stream, timeout, &answer);
    if (status != DULY_STATUS_OK)
        return answered(a, status, expect);
    if (answer == NULL)
        return same_text(a, "the answer", "end", expect);
    bool good = answered(a, duly_task_wait(answer, 0, &outcome), "ok") &&
                same_text(a, "the answer", duly_outcome_name(outcome), expect);
    if (good && item && outcome == DULY_SUCCEEDED)
        good = answered(a, duly_task_take(answer, &value), "ok") &&
               same_number(a, "the item", (long long)(intptr_t)value, item->number);
    if (good && item && outcome == DULY_FAILED)
        good = same_number(a, "the item", duly_task_code(answer) - 1, item->number);
    duly_task_release(answer);
    return good;
}

static bool look_at_pulled(act *a, struct stream *me) {
    const field *least = get(a, "at_least", NUMBER), *most = get(a, "at_most", NUMBER);
    const long long pulled = me->pulled;
    if ((least && pulled < least->number) || (most && pulled > most->number))
        return wrong(a, "%lld items were pulled, out of bounds", pulled);
    return true;
}

void leave_stream(void *stream) {
    struct stream *me = stream;
    duly_stream_release(me->stream);
    free(me);
}

bool step_on_stream(act *a, const char *verb, bool *good) {
    static const char *const verbs[] = {"next", "pulled", "drop_stream", NULL};
    const char *name = text(a, "stream", "");
    if (is(verb, "stream")) {
        *good = make_stream(a, name);
        return true;
    }
    if (!one_of(verb, verbs))
        return false;
    struct stream *me = is(verb, "drop_stream") ? take(a->w, &a->w->streams, name) : look_up(a->w, &a->w->streams, name);
    *good = me != NULL || wrong(a, "there is no stream %s", name);
    if (*good && is(verb, "drop_stream"))
        leave_stream(me);
    else if (*good)
        *good = is(verb, "next") ? next_answer(a, me) : look_at_pulled(a, me);
    return true;
}
