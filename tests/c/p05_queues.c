/* P5: queues beside the pool's own, each with its own bounds: capacity, limits, keys, pause, and what a delay holds. */
#include "check.h"

static duly_queue *add_queue(duly_pool *pool, const char *name, uint32_t capacity, uint32_t limit, uint32_t key_limit) {
    duly_queue_options options = DULY_QUEUE_OPTIONS_INIT;
    duly_queue *queue = NULL;
    options.name = name;
    options.capacity = capacity;
    options.limit = limit;
    options.key_limit = key_limit;
    OK(duly_pool_add_queue(pool, &options, &queue));
    return queue;
}

static duly_status submit_to(duly_pool *pool, duly_queue *queue, const char *key, duly_run_fn run, void *data,
                             duly_task **task) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.queue = queue;
    options.key = key;
    options.key_size = key ? strlen(key) : 0;
    return duly_try_submit(pool, &options, run, data, NULL, task);
}

static duly_queue_numbers numbers_of(const duly_queue *queue) {
    duly_queue_numbers numbers = {0};
    OK(duly_queue_stats(queue, &numbers, sizeof numbers));
    return numbers;
}

static void p05_a_full_queue_holds_up_no_other(void) {
    duly_pool *pool = make_pool(1, 2, DULY_OVERFLOW_DEFAULT);
    duly_queue *small = add_queue(pool, "small", 1, 0, 0), *own = NULL;
    gate door = GATE_INIT;
    OK(duly_pool_default_queue(pool, &own));
    CHECK_TEXT(duly_queue_name(small), "small");
    CHECK_TEXT(duly_queue_name(own), "default");
    OK(submit_to(pool, own, NULL, run_gate, &door, NULL));
    gate_wait_entered(&door, 1);
    OK(submit_to(pool, small, NULL, run_nothing, NULL, NULL));
    CHECK_STATUS(submit_to(pool, small, NULL, run_nothing, NULL, NULL), DULY_STATUS_QUEUE_FULL);
    OK(submit_to(pool, NULL, NULL, run_nothing, NULL, NULL));
    OK(submit_to(pool, own, NULL, run_nothing, NULL, NULL));
    CHECK_STATUS(submit_to(pool, own, NULL, run_nothing, NULL, NULL), DULY_STATUS_QUEUE_FULL);
    CHECK(numbers_of(small).queued == 1 && numbers_of(small).submitted == 1 && numbers_of(own).queued == 2);
    OK(duly_queue_set_capacity(small, 2));
    OK(submit_to(pool, small, NULL, run_nothing, NULL, NULL));
    gate_open(&door);
    duly_queue_release(own);
    duly_queue_release(small);
    end_pool(pool);
}

static void p05_a_limit_holds_and_can_be_raised(void) {
    duly_pool *pool = make_pool(3, 0, DULY_OVERFLOW_DEFAULT);
    duly_queue *queue = add_queue(pool, "limited", 0, 1, 0);
    gate door = GATE_INIT, other = GATE_INIT;
    for (int i = 0; i < 3; i++)
        OK(submit_to(pool, queue, NULL, run_gate, &door, NULL));
    OK(submit_to(pool, NULL, NULL, run_gate, &other, NULL));
    gate_wait_entered(&door, 1);
    gate_wait_entered(&other, 1);
    CHECK(numbers_of(queue).running == 1 && numbers_of(queue).queued == 2);
    OK(duly_queue_set_limit(queue, 2));
    gate_wait_entered(&door, 2);
    CHECK(numbers_of(queue).running == 2 && numbers_of(queue).queued == 1);
    gate_open(&other);
    OK(duly_queue_set_limit(queue, 0));
    gate_wait_entered(&door, 3);
    gate_open(&door);
    CHECK_STATUS(duly_queue_set_weight(queue, 0), DULY_STATUS_INVALID_ARGUMENT);
    OK(duly_queue_set_weight(queue, 3));
    duly_queue_release(queue);
    end_pool(pool);
}

/* Notes in which order it ran, and whether another of its key ran at the same time. */
typedef struct {
    atomic_int inside;
    atomic_int overlapped;
    atomic_int count;
    int order[64];
} strand;

typedef struct {
    strand *of;
    int number;
} bead;

static int32_t run_bead(void *data, duly_call *call) {
    bead *me = data;
    (void)call;
    if (atomic_fetch_add(&me->of->inside, 1) != 0)
        atomic_store(&me->of->overlapped, 1);
    sched_yield();
    me->of->order[atomic_load(&me->of->count)] = me->number;
    atomic_fetch_add(&me->of->count, 1);
    atomic_fetch_sub(&me->of->inside, 1);
    return 0;
}

static void p05_tasks_of_one_key_run_one_after_the_other_in_order(void) {
    enum { KEYS = 3, EACH = 40 };
    static strand strands[KEYS];
    static bead beads[KEYS][EACH];
    const char *keys[KEYS] = {"a", "b", "a and more"};
    duly_pool *pool = make_pool(4, 0, DULY_OVERFLOW_DEFAULT);
    duly_queue *queue = add_queue(pool, "strands", 0, 0, 1);
    OK(duly_queue_pause(queue));
    CHECK(numbers_of(queue).paused == 1);
    for (int i = 0; i < EACH; i++)
        for (int k = 0; k < KEYS; k++) {
            char copy[20];
            beads[k][i] = (bead){&strands[k], i};
            /* The key is its bytes, wherever they stand, and is copied. */
            snprintf(copy, sizeof copy, "%s", keys[k]);
            OK(submit_to(pool, queue, copy, run_bead, &beads[k][i], NULL));
        }
    OK(duly_queue_resume(queue));
    CHECK(numbers_of(queue).paused == 0);
    for (int k = 0; k < KEYS; k++) {
        CHECK(UNTIL(strands[k].count == EACH));
        CHECK(strands[k].overlapped == 0);
        for (int i = 0; i < EACH; i++)
            CHECK(strands[k].order[i] == i);
    }
    duly_queue_release(queue);
    end_pool(pool);
}

static void p05_a_key_has_a_capacity_of_its_own(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_queue *queue = add_queue(pool, "keyed", 10, 0, 0);
    OK(duly_queue_set_key_capacity(queue, 1));
    OK(duly_pool_pause(pool));
    OK(submit_to(pool, queue, "a", run_nothing, NULL, NULL));
    CHECK_STATUS(submit_to(pool, queue, "a", run_nothing, NULL, NULL), DULY_STATUS_QUEUE_FULL);
    OK(submit_to(pool, queue, "b", run_nothing, NULL, NULL));
    OK(submit_to(pool, queue, "", run_nothing, NULL, NULL));
    OK(duly_queue_set_key_capacity(queue, 0));
    OK(duly_queue_set_key_limit(queue, 2));
    OK(submit_to(pool, queue, "a", run_nothing, NULL, NULL));
    CHECK(numbers_of(queue).queued == 4);
    OK(duly_pool_resume(pool));
    CHECK(UNTIL(numbers_of(queue).queued == 0));
    duly_queue_release(queue);
    end_pool(pool);
}

static void p05_paused_tasks_are_not_started_and_still_answered(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    probe seen = {0};
    OK(duly_pool_pause(pool));
    duly_task *late = submit_within(pool, 20 * MS, run_probe, &seen, drop_probe);
    duly_task *waits = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(late, DULY_DEADLINE_EXCEEDED);
    CHECK(seen.ran == 0);
    OK(duly_task_wait_released(late, LONG));
    CHECK(seen.dropped == 1);
    CHECK_STATUS(duly_task_wait(waits, 0, NULL), DULY_STATUS_TIMED_OUT);
    OK(duly_pool_resume(pool));
    CHECK_OUTCOME(waits, DULY_SUCCEEDED);
    duly_task_release(late);
    duly_task_release(waits);
    end_pool(pool);
}

static void p05_workers_come_and_go(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_stats stats = {0};
    for (int i = 0; i < 3; i++)
        OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    OK(duly_pool_set_workers(pool, 3));
    gate_wait_entered(&door, 3);
    gate_open(&door);
    OK(duly_pool_set_workers(pool, 1));
    CHECK(UNTIL(duly_pool_stats(pool, &stats, sizeof stats) == DULY_STATUS_OK && stats.workers == 1));
    CHECK_STATUS(duly_pool_set_workers(pool, 0), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_pool_set_workers(pool, UINT32_MAX), DULY_STATUS_INVALID_ARGUMENT);
    OK(duly_pool_close(pool));
    CHECK_STATUS(duly_pool_set_workers(pool, 2), DULY_STATUS_SHUT_DOWN);
    end_pool(pool);
}

static int32_t run_now(void *data, duly_call *call) {
    (void)call;
    *(uint64_t *)data = now_ns();
    return 0;
}

static void p02_a_delayed_task_is_never_started_early(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    const uint64_t delay = 40 * MS, began = now_ns();
    uint64_t ran = 0;
    duly_task *task = NULL, *at_once = submit(pool, run_nothing, NULL, NULL);
    options.delay_ns = delay;
    OK(duly_submit(pool, &options, run_now, &ran, NULL, &task));
    CHECK_OUTCOME(at_once, DULY_SUCCEEDED);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK(ran >= began + delay && ran < began + delay + LATE);
    duly_task_release(at_once);
    duly_task_release(task);
    end_pool(pool);
}

static void p05_a_delayed_task_holds_a_place_and_gives_it_back_when_cancelled(void) {
    duly_pool *pool = make_pool(1, 1, DULY_OVERFLOW_DEFAULT);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    probe seen = {0};
    options.delay_ns = DULY_FOREVER;
    OK(duly_submit(pool, &options, run_probe, &seen, drop_probe, &task));
    CHECK_STATUS(duly_try_submit(pool, NULL, run_nothing, NULL, NULL, NULL), DULY_STATUS_QUEUE_FULL);
    OK(duly_task_cancel(task));
    CHECK(seen.ran == 0);
    OK(duly_task_wait_released(task, LONG));
    CHECK(seen.dropped == 1);
    OK(duly_try_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    duly_task_release(task);
    end_pool(pool);
}

static void p16_a_queue_of_another_pool_is_refused(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT), *other = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_queue *queue = add_queue(other, "theirs", 0, 0, 0);
    CHECK_STATUS(submit_to(pool, queue, NULL, run_nothing, NULL, NULL), DULY_STATUS_INVALID_ARGUMENT);
    end_pool(other);
    /* A handle of it outlives its pool. */
    CHECK_STATUS(submit_to(pool, queue, NULL, run_nothing, NULL, NULL), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_TEXT(duly_queue_name(queue), "theirs");
    OK(duly_queue_pause(queue));
    OK(duly_queue_resume(queue));
    duly_queue_release(queue);
    OK(duly_pool_close(pool));
    CHECK_STATUS(duly_pool_add_queue(pool, NULL, &queue), DULY_STATUS_SHUT_DOWN);
    end_pool(pool);
}

MAIN(TEST(p05_a_full_queue_holds_up_no_other), TEST(p05_a_limit_holds_and_can_be_raised),
     TEST(p05_tasks_of_one_key_run_one_after_the_other_in_order), TEST(p05_a_key_has_a_capacity_of_its_own),
     TEST(p05_paused_tasks_are_not_started_and_still_answered), TEST(p05_workers_come_and_go),
     TEST(p02_a_delayed_task_is_never_started_early),
     TEST(p05_a_delayed_task_holds_a_place_and_gives_it_back_when_cancelled),
     TEST(p16_a_queue_of_another_pool_is_refused));
