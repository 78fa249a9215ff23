/* P9: after a shutdown nothing of the pool is left, and what had to be abandoned is named. */
#include <dirent.h>

#include "check.h"

/* How many entries a folder of /proc/self has: threads, or open descriptors. */
static int entries(const char *folder) {
    DIR *dir = opendir(folder);
    int count = 0;
    if (dir == NULL)
        return -1;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* The fewest of some looks: a thread that was joined is listed a moment longer. */
static int settled_threads(void) {
    int fewest = entries("/proc/self/task");
    for (int i = 0; i < 50; i++) {
        usleep(2000);
        const int now = entries("/proc/self/task");
        if (now < fewest)
            fewest = now;
    }
    return fewest;
}

static void p09_after_a_shutdown_no_thread_and_no_descriptor_is_left(void) {
    /* The process's first thread may bring a thread of a sanitizer's own with it, which stays. */
    end_pool(make_pool(1, 0, DULY_OVERFLOW_DEFAULT));
    int threads = settled_threads();
    int descriptors = entries("/proc/self/fd");
    CHECK(threads > 0 && descriptors > 0);
    for (int round = 0; round < 5; round++) {
        duly_pool *pool = make_pool(8, 0, DULY_OVERFLOW_DEFAULT);
        CHECK(entries("/proc/self/task") >= threads + 8);
        for (int i = 0; i < 100; i++) {
            duly_task *task = submit_within(pool, LONG, run_nothing, NULL, NULL);
            duly_task_release(task);
        }
        end_pool(pool);
        CHECK(UNTIL(entries("/proc/self/task") <= threads));
        CHECK(entries("/proc/self/fd") == descriptors);
    }
}

static void p09_a_released_pool_runs_what_it_accepted_and_goes(void) {
    int threads = settled_threads();
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    probe seen = {0};
    OK(duly_submit(pool, NULL, run_gate, &door, NULL, NULL));
    gate_wait_entered(&door, 1);
    duly_task *task = submit(pool, run_probe, &seen, drop_probe);
    uint64_t start = now_ns();
    duly_pool_release(pool);
    CHECK(now_ns() - start < LATE);
    gate_open(&door);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    OK(duly_task_wait_released(task, LONG));
    CHECK(seen.ran == 1 && seen.dropped == 1);
    duly_task_release(task);
    CHECK(UNTIL(entries("/proc/self/task") <= threads));
}

static void p09_a_released_pool_abandons_after_its_drain(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    gate door = GATE_INIT;
    options.workers = 1;
    options.drop_drain_ns = 30 * MS;
    OK(duly_pool_new(&options, &pool));
    duly_task *task = submit(pool, run_gate, &door, NULL);
    gate_wait_entered(&door, 1);
    duly_pool_release(pool);
    CHECK_OUTCOME(task, DULY_ABANDONED);
    gate_open(&door);
    OK(duly_task_wait_released(task, LONG));
    duly_task_release(task);
}

static void p09_the_report_names_every_abandoned_task(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    gate door = GATE_INIT;
    const char *labels[] = {"alpha", "beta", "gamma \xff", NULL};
    const char *shown[] = {"alpha", "beta", "gamma \xef\xbf\xbd", ""};
    duly_report *report = NULL;
    duly_stats stats;
    for (int i = 0; i < 4; i++) {
        duly_task_options options = DULY_TASK_OPTIONS_INIT;
        duly_task *task = NULL;
        options.label = labels[i];
        OK(duly_submit(pool, &options, run_gate, &door, NULL, &task));
        CHECK_TEXT(duly_task_label(task), shown[i]);
        duly_task_release(task);
    }
    gate_wait_entered(&door, 2);
    OK(duly_pool_shutdown(pool, 20 * MS, &report));
    CHECK(duly_report_abandoned_count(report) == 4);
    for (int i = 0; i < 4; i++) {
        int found = 0;
        for (size_t j = 0; j < duly_report_abandoned_count(report); j++)
            found += strcmp(duly_report_abandoned_label(report, j), shown[i]) == 0;
        CHECK(found == 1);
    }
    CHECK_TEXT(duly_report_abandoned_label(report, 4), "");
    CHECK_TEXT(duly_report_abandoned_label(report, SIZE_MAX), "");
    CHECK(strstr(duly_report_text(report), "alpha") != NULL);
    CHECK(duly_report_threads_left(report) == 2);
    CHECK(duly_report_stuck_count(report) == 2);
    CHECK(strcmp(duly_report_stuck_label(report, 0), duly_report_stuck_label(report, 1)) != 0);
    CHECK_TEXT(duly_report_stuck_label(report, 2), "");
    OK(duly_report_stats(report, &stats, sizeof stats));
    CHECK(stats.abandoned == 4 && stats.submitted == 4);
    CHECK(duly_report_retain(report) == report);
    duly_report_release(report);
    CHECK(duly_report_abandoned_count(report) == 4);
    duly_report_release(report);
    gate_open(&door);
    CHECK(UNTIL(door.left == 2));
    duly_pool_release(pool);
}

static void p09_a_second_shutdown_is_fine(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_report *report = NULL;
    OK(duly_pool_shutdown(pool, LONG, NULL));
    OK(duly_pool_shutdown(pool, 0, &report));
    CHECK(duly_report_drained(report));
    duly_report_release(report);
    CHECK_STATUS(duly_submit(pool, NULL, run_nothing, NULL, NULL, NULL), DULY_STATUS_SHUT_DOWN);
    duly_pool_release(pool);
}

MAIN(TEST(p09_after_a_shutdown_no_thread_and_no_descriptor_is_left),
     TEST(p09_a_released_pool_runs_what_it_accepted_and_goes), TEST(p09_a_released_pool_abandons_after_its_drain),
     TEST(p09_the_report_names_every_abandoned_task), TEST(p09_a_second_shutdown_is_fine));
