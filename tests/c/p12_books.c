/* P12: the books balance. */
#include "check.h"

static int32_t run_fail(void *data, duly_call *call) {
    (void)data;
    (void)call;
    return 1;
}

static void p12_every_outcome_is_counted_once(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    duly_stats stats;
    duly_report *report = NULL;
    options.workers = 1;
    options.capacity = 4;
    options.overflow = DULY_OVERFLOW_DROP_NEWEST;
    options.max_replacements = DULY_NONE;
    OK(duly_pool_new(&options, &pool));
    duly_task *good = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(good, DULY_SUCCEEDED);
    duly_task *bad = submit(pool, run_fail, NULL, NULL);
    CHECK_OUTCOME(bad, DULY_FAILED);
    duly_task *stuck = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    duly_task *late = submit_within(pool, MS, run_nothing, NULL, NULL);
    CHECK_OUTCOME(late, DULY_DEADLINE_EXCEEDED);
    duly_task *unwanted = submit(pool, run_nothing, NULL, NULL);
    OK(duly_task_cancel(unwanted));
    for (int i = 0; i < 6; i++)
        OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL));
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    CHECK(duly_stats_balance(&stats));
    CHECK(stats.submitted == 11);
    CHECK(stats.queued == 4 && stats.running == 1 && stats.shed == 2);
    OK(duly_pool_shutdown(pool, 0, &report));
    CHECK_STATUS(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    OK(duly_report_stats(report, &stats, sizeof stats));
    CHECK(duly_stats_balance(&stats));
    CHECK(stats.submitted == 11 && stats.succeeded == 1 && stats.failed == 1 && stats.panicked == 0);
    CHECK(stats.cancelled == 1 && stats.deadline_exceeded == 1 && stats.shed == 2 && stats.abandoned == 5);
    CHECK(stats.queued == 0 && stats.running == 0);
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    CHECK(stats.refused == 1);
    duly_report_release(report);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    duly_task_release(good);
    duly_task_release(bad);
    duly_task_release(stuck);
    duly_task_release(late);
    duly_task_release(unwanted);
    duly_pool_release(pool);
}

static void p12_the_balance_is_the_sum(void) {
    duly_stats stats = {0};
    uint64_t *parts[] = {&stats.succeeded,         &stats.failed, &stats.panicked,  &stats.cancelled,
                         &stats.deadline_exceeded, &stats.shed,   &stats.abandoned, &stats.queued,
                         &stats.running};
    CHECK(duly_stats_balance(&stats));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ++*parts[i];
        CHECK(!duly_stats_balance(&stats));
        ++stats.submitted;
        CHECK(duly_stats_balance(&stats));
    }
    stats.refused = stats.late = stats.overdue = stats.workers = 9;
    CHECK(duly_stats_balance(&stats));
    stats.succeeded = UINT64_MAX;
    CHECK(!duly_stats_balance(&stats));
    CHECK(!duly_stats_balance(NULL));
}

MAIN(TEST(p12_every_outcome_is_counted_once), TEST(p12_the_balance_is_the_sum));
