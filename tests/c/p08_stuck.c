/* P8: a stuck callback keeps its thread, and the pool keeps its capacity. */
#include "check.h"

static duly_stats stats_of(const duly_pool *pool) {
    duly_stats stats = {0};
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    return stats;
}

static void p08_a_worker_stuck_in_an_overdue_callback_is_replaced(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    options.workers = 1;
    options.replace_after_ns = 20 * MS;
    OK(duly_pool_new(&options, &pool));
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    OK(duly_task_cancel(stuck));
    duly_task *next = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(next, DULY_SUCCEEDED);
    CHECK(door.left == 0);
    CHECK(stats_of(pool).overdue == 1);
    CHECK(UNTIL(stats_of(pool).replaced == 1));
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    CHECK(UNTIL(stats_of(pool).overdue == 0 && stats_of(pool).late == 1));
    duly_task_release(stuck);
    duly_task_release(next);
    end_pool(pool);
}

static void p08_without_replacements_deadlines_still_answer(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    options.workers = 1;
    options.replace_after_ns = 10 * MS;
    options.max_replacements = DULY_NONE;
    OK(duly_pool_new(&options, &pool));
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    OK(duly_task_cancel(stuck));
    duly_task *queued = submit_within(pool, 100 * MS, run_nothing, NULL, NULL);
    CHECK_OUTCOME(queued, DULY_DEADLINE_EXCEEDED);
    CHECK(UNTIL(stats_of(pool).stalled == 1));
    CHECK(stats_of(pool).replaced == 0);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    duly_task_release(stuck);
    duly_task_release(queued);
    end_pool(pool);
}

MAIN(TEST(p08_a_worker_stuck_in_an_overdue_callback_is_replaced), TEST(p08_without_replacements_deadlines_still_answer));
