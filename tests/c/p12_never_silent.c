/* P12: what nobody looked at is told: to the pool's hook, and to the log hook. */
#include "check.h"

/* What a hook was told, and whether its data was still there. */
typedef struct {
    atomic_int events[8];
    atomic_int dropped;
    atomic_int after_drop;
    pthread_mutex_t lock;
    char label[40], text[80];
    int32_t outcome, callback;
    uint64_t ran_ns, number;
} listener;
#define LISTENER_INIT {.lock = PTHREAD_MUTEX_INITIALIZER}

static void listen_to(void *data, const duly_event *event) {
    listener *me = data;
    if (me->dropped)
        atomic_store(&me->after_drop, 1);
    CHECK(event->size >= sizeof *event);
    CHECK_TEXT(event->pool, "loud");
    if (event->kind == DULY_EVENT_LATE || event->kind == DULY_EVENT_UNOBSERVED || event->kind == DULY_EVENT_STALLED) {
        pthread_mutex_lock(&me->lock);
        snprintf(me->label, sizeof me->label, "%s", event->label);
        snprintf(me->text, sizeof me->text, "%s", event->text);
        me->outcome = event->outcome;
        me->callback = event->callback;
        me->ran_ns = event->ran_ns;
        me->number = event->number;
        pthread_mutex_unlock(&me->lock);
    }
    if (event->kind > 0 && event->kind < 8)
        atomic_fetch_add(&me->events[event->kind], 1);
}

static void drop_listener(void *data) {
    atomic_fetch_add(&((listener *)data)->dropped, 1);
}

static duly_pool *loud_pool(listener *me) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.name = "loud";
    options.workers = 1;
    options.max_replacements = DULY_NONE;
    options.replace_after_ns = 5 * MS;
    options.hook = listen_to;
    options.hook_data = me;
    options.hook_drop = drop_listener;
    OK(duly_pool_new(&options, &pool));
    return pool;
}

static int32_t run_fail(void *data, duly_call *call) {
    (void)data;
    duly_call_set_message(call, "no such file");
    return 3;
}

static duly_task *submit_labelled(duly_pool *pool, const char *label, uint64_t timeout_ns, duly_run_fn run, void *data) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    options.label = label;
    options.timeout_ns = timeout_ns;
    OK(duly_submit(pool, &options, run, data, NULL, &task));
    return task;
}

static void p12_a_pools_hook_is_told_of_everything_and_its_data_goes_last(void) {
    listener me = LISTENER_INIT;
    duly_pool *pool = loud_pool(&me);
    gate door = GATE_INIT;
    CHECK(UNTIL(me.events[DULY_EVENT_WORKER_START] == 1));
    duly_task_release(submit_labelled(pool, "forgotten", 0, run_fail, NULL));
    CHECK(UNTIL(me.events[DULY_EVENT_UNOBSERVED] == 1));
    CHECK_TEXT(me.label, "forgotten");
    CHECK(me.outcome == DULY_FAILED && me.callback == 0);
    duly_task *seen = submit_labelled(pool, "seen", 0, run_fail, NULL);
    CHECK_OUTCOME(seen, DULY_FAILED);
    duly_task_release(seen);
    duly_task *slow = submit_labelled(pool, "slow", 0, run_gate, &door);
    gate_wait_entered(&door, 1);
    duly_task *behind = submit(pool, run_nothing, NULL, NULL);
    OK(duly_task_cancel(slow));
    CHECK(UNTIL(me.events[DULY_EVENT_STALLED] == 1));
    CHECK(strstr(me.text, "slow") != NULL && me.number == 1);
    gate_open(&door);
    CHECK(UNTIL(me.events[DULY_EVENT_LATE] == 1));
    CHECK_TEXT(me.label, "slow");
    CHECK(me.outcome == DULY_CANCELLED && me.callback == DULY_SUCCEEDED && me.ran_ns < LONG);
    CHECK_OUTCOME(behind, DULY_SUCCEEDED);
    duly_task_release(slow);
    duly_task_release(behind);
    end_pool(pool);
    CHECK(UNTIL(me.dropped == 1));
    CHECK(me.events[DULY_EVENT_WORKER_STOP] == me.events[DULY_EVENT_WORKER_START]);
    CHECK(me.events[DULY_EVENT_UNOBSERVED] == 1 && me.after_drop == 0);
}

static void p16_a_pool_that_is_not_made_takes_no_hook(void) {
    listener me = LISTENER_INIT;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.hook = listen_to;
    options.hook_data = &me;
    options.hook_drop = drop_listener;
    options.workers = 100000;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(pool == NULL && me.dropped == 0);
    /* One that is made takes what it has no use for, too. */
    options.hook = NULL;
    options.workers = 1;
    OK(duly_pool_new(&options, &pool));
    end_pool(pool);
    CHECK(me.dropped == 1);
}

/* Lines of the log. */
typedef struct {
    atomic_int lines, dropped, after_drop;
    pthread_mutex_t lock;
    int32_t level;
    char last[200];
    gate *door;
} book;
#define BOOK_INIT {.lock = PTHREAD_MUTEX_INITIALIZER}

static void write_down(void *data, int32_t level, const char *message) {
    book *me = data;
    if (me->door)
        run_gate(me->door, NULL);
    if (me->dropped)
        atomic_store(&me->after_drop, 1);
    pthread_mutex_lock(&me->lock);
    me->level = level;
    snprintf(me->last, sizeof me->last, "%s", message);
    pthread_mutex_unlock(&me->lock);
    atomic_fetch_add(&me->lines, 1);
}

static void drop_book(void *data) {
    atomic_fetch_add(&((book *)data)->dropped, 1);
}

static void forget_a_failure(const char *label) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_release(submit_labelled(pool, label, 0, run_fail, NULL));
    end_pool(pool);
}

static void p12_a_failure_nobody_looked_at_is_logged(void) {
    book first = BOOK_INIT, second = BOOK_INIT;
    OK(duly_set_log(write_down, &first, drop_book));
    forget_a_failure("one");
    CHECK(UNTIL(first.lines == 1));
    CHECK(first.level == DULY_LOG_WARN && strstr(first.last, "one") != NULL);
    CHECK(strchr(first.last, '\n') == NULL);
    OK(duly_set_log(write_down, &second, drop_book));
    CHECK(first.dropped == 1);
    forget_a_failure("two");
    CHECK(UNTIL(second.lines == 1));
    CHECK(first.lines == 1);
    OK(duly_set_log(NULL, NULL, NULL));
    CHECK(second.dropped == 1);
    forget_a_failure("three");
    CHECK(second.lines == 1 && first.dropped == 1 && !first.after_drop && !second.after_drop);
}

static void p06_a_log_hook_that_is_being_called_keeps_its_data(void) {
    gate door = GATE_INIT;
    book slow = BOOK_INIT;
    slow.door = &door;
    OK(duly_set_log(write_down, &slow, drop_book));
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    /* Without a handle: a failure is told where the last one goes, and that must not be this thread. */
    OK(duly_submit(pool, NULL, run_fail, NULL, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_set_log(NULL, NULL, NULL));
    CHECK(slow.dropped == 0);
    gate_open(&door);
    CHECK(UNTIL(slow.dropped == 1));
    CHECK(slow.lines == 1 && slow.after_drop == 0);
    end_pool(pool);
}

static atomic_bool enough;

static void *log_on(void *data) {
    duly_pool *pool = data;
    while (!enough) {
        duly_task *task = submit(pool, run_fail, NULL, NULL);
        duly_task_release(task);
    }
    return NULL;
}

static void p13_log_hooks_change_while_lines_are_logged(void) {
    enum { CHANGES = 200 };
    static book books[CHANGES];
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, log_on, pool) == 0);
    for (int i = 0; i < CHANGES; i++) {
        pthread_mutex_init(&books[i].lock, NULL);
        OK(duly_set_log(write_down, &books[i], drop_book));
        if (i % 50 == 0)
            CHECK(UNTIL(books[i].lines > 0));
    }
    OK(duly_set_log(NULL, NULL, NULL));
    atomic_store(&enough, true);
    pthread_join(thread, NULL);
    end_pool(pool);
    for (int i = 0; i < CHANGES; i++)
        CHECK(UNTIL(books[i].dropped == 1) && books[i].after_drop == 0);
}

MAIN(TEST(p12_a_pools_hook_is_told_of_everything_and_its_data_goes_last), TEST(p16_a_pool_that_is_not_made_takes_no_hook),
     TEST(p12_a_failure_nobody_looked_at_is_logged), TEST(p06_a_log_hook_that_is_being_called_keeps_its_data),
     TEST(p13_log_hooks_change_while_lines_are_logged));
