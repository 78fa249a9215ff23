/* P9: what still runs is named: label, where submitted, thread, outcome, age. */
#include "check.h"

static size_t count_of(duly_status (*look)(const duly_pool *, duly_leaks **), const duly_pool *pool) {
    duly_leaks *leaks = NULL;
    OK(look(pool, &leaks));
    size_t count = duly_leaks_count(leaks);
    duly_leaks_release(leaks);
    return count;
}

static duly_status look_leaks(const duly_pool *pool, duly_leaks **leaks) {
    return duly_pool_leaks(pool, leaks);
}

static duly_status look_running(const duly_pool *pool, duly_leaks **leaks) {
    return duly_pool_running(pool, leaks);
}

static void p09_what_still_runs_is_named(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_task_options task_options = DULY_TASK_OPTIONS_INIT;
    duly_pool *pool = NULL;
    duly_task *stuck = NULL;
    duly_leaks *leaks = NULL;
    gate door = GATE_INIT, other = GATE_INIT;
    char here[120];
    options.name = "leaky";
    options.workers = 2;
    OK(duly_pool_new(&options, &pool));
    CHECK(count_of(look_running, pool) == 0);
    task_options.label = "upload";
    task_options.submitted_at = DULY_HERE;
    snprintf(here, sizeof here, "%s:%d", __FILE__, __LINE__ - 1);
    const uint64_t began = now_ns();
    OK(duly_submit(pool, &task_options, run_gate, &door, NULL, &stuck));
    duly_task *fine = submit(pool, run_gate, &other, NULL);
    gate_wait_entered(&door, 1);
    gate_wait_entered(&other, 1);
    const uint64_t entered = now_ns();
    OK(duly_task_cancel(stuck));
    CHECK(count_of(look_running, pool) == 2);
    CHECK(UNTIL(now_ns() - entered > 30 * MS));
    OK(duly_pool_leaks(pool, &leaks));
    const uint64_t looked = now_ns();
    CHECK(duly_leaks_count(leaks) == 1);
    CHECK_TEXT(duly_leaks_label(leaks, 0), "upload");
    CHECK_TEXT(duly_leaks_submitted_at(leaks, 0), here);
    CHECK(strncmp(duly_leaks_thread(leaks, 0), "leaky-", 6) == 0);
    CHECK(duly_leaks_outcome(leaks, 0) == DULY_CANCELLED);
    /* It is told to a few milliseconds. */
    CHECK(duly_leaks_age_ns(leaks, 0) > 0 && duly_leaks_age_ns(leaks, 0) <= looked - began + 10 * MS);
    CHECK(strstr(duly_leaks_text(leaks), "upload") && strstr(duly_leaks_text(leaks), here));
    CHECK_TEXT(duly_leaks_label(leaks, 1), "");
    CHECK_TEXT(duly_leaks_thread(leaks, SIZE_MAX), "");
    CHECK(duly_leaks_outcome(leaks, 1) == 0 && duly_leaks_age_ns(leaks, 1) == 0);
    CHECK(duly_leaks_retain(leaks) == leaks);
    duly_leaks_release(leaks);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    CHECK(UNTIL(count_of(look_leaks, pool) == 0));
    /* A snapshot stays as it was. */
    CHECK(duly_leaks_count(leaks) == 1);
    duly_leaks_release(leaks);
    OK(duly_pool_running(pool, &leaks));
    CHECK(duly_leaks_count(leaks) == 1 && duly_leaks_outcome(leaks, 0) == 0);
    CHECK_TEXT(duly_leaks_label(leaks, 0), "");
    CHECK_TEXT(duly_leaks_submitted_at(leaks, 0), "");
    duly_leaks_release(leaks);
    gate_open(&other);
    duly_task_release(stuck);
    duly_task_release(fine);
    end_pool(pool);
}

static void p09_an_abandoned_callback_is_a_leak_of_an_ended_pool(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    duly_task *task = submit(pool, run_gate, &door, NULL);
    duly_leaks *leaks = NULL;
    duly_report *report = NULL;
    gate_wait_entered(&door, 1);
    OK(duly_pool_shutdown(pool, 0, &report));
    /* What the core knows of a task without label and place is a line of the library: that is told to nobody. */
    CHECK(strstr(duly_report_text(report), "abandoned: a task without label: running") != NULL);
    CHECK(strstr(duly_report_text(report), ".rs") == NULL);
    duly_report_release(report);
    OK(duly_pool_leaks(pool, &leaks));
    CHECK(duly_leaks_count(leaks) == 1 && duly_leaks_outcome(leaks, 0) == DULY_ABANDONED);
    duly_leaks_release(leaks);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    CHECK(UNTIL(count_of(look_leaks, pool) == 0));
    duly_task_release(task);
    duly_pool_release(pool);
}

static void p16_leaks_of_nothing(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_leaks *leaks = NULL;
    CHECK_STATUS(duly_pool_leaks(NULL, &leaks), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_pool_leaks(pool, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_pool_running(NULL, &leaks), DULY_STATUS_NULL_ARGUMENT);
    CHECK(duly_leaks_count(NULL) == 0 && duly_leaks_count((duly_leaks *)(void *)pool) == 0);
    CHECK_TEXT(duly_leaks_label(NULL, 0), "");
    CHECK_TEXT(duly_leaks_submitted_at((duly_leaks *)(void *)pool, 0), "");
    CHECK_TEXT(duly_leaks_text(NULL), "");
    CHECK(duly_leaks_retain(NULL) == NULL);
    duly_leaks_release(NULL);
    end_pool(pool);
}

MAIN(TEST(p09_what_still_runs_is_named), TEST(p09_an_abandoned_callback_is_a_leak_of_an_ended_pool),
     TEST(p16_leaks_of_nothing));
