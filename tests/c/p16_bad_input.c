/* P16: bad input is an error, never undefined behaviour. */
#include "check.h"

static void p16_null_everywhere(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    duly_outcome outcome;
    duly_stats stats;
    void *value;
    const duly_status none = DULY_STATUS_NULL_ARGUMENT;

    CHECK_STATUS(duly_pool_new(NULL, NULL), none);
    CHECK_STATUS(duly_pool_options_init(NULL, sizeof(duly_pool_options)), none);
    CHECK_STATUS(duly_task_options_init(NULL, sizeof(duly_task_options)), none);
    CHECK_STATUS(duly_submit(NULL, NULL, run_nothing, NULL, NULL, NULL), none);
    CHECK_STATUS(duly_submit(pool, NULL, NULL, NULL, NULL, NULL), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_try_submit(NULL, NULL, run_nothing, NULL, NULL, NULL), none);
    CHECK_STATUS(duly_try_submit(pool, NULL, NULL, NULL, NULL, NULL), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_pool_stats(NULL, &stats, sizeof stats), none);
    CHECK_STATUS(duly_pool_stats(pool, NULL, sizeof stats), none);
    CHECK_STATUS(duly_pool_close(NULL), none);
    CHECK_STATUS(duly_pool_shutdown(NULL, 0, NULL), none);
    CHECK(duly_pool_retain(NULL) == NULL);
    duly_pool_release(NULL);

    CHECK_STATUS(duly_task_wait(NULL, 0, &outcome), none);
    CHECK_STATUS(duly_task_outcome(NULL, &outcome), none);
    CHECK_STATUS(duly_task_take(NULL, &value), none);
    CHECK_STATUS(duly_task_take(task, NULL), none);
    CHECK_STATUS(duly_task_wait_released(NULL, 0), none);
    CHECK_STATUS(duly_task_cancel(NULL), none);
    CHECK_STATUS(duly_task_cancel_with(NULL, "why"), none);
    CHECK_STATUS(duly_task_cancel_with(task, NULL), none);
    CHECK(duly_task_code(NULL) == 0);
    CHECK_TEXT(duly_task_message(NULL), "");
    CHECK_TEXT(duly_task_reason(NULL), "");
    CHECK_TEXT(duly_task_label(NULL), "");
    CHECK(duly_task_retain(NULL) == NULL);
    duly_task_release(NULL);

    CHECK(!duly_call_is_cancelled(NULL));
    CHECK(duly_call_time_left(NULL) == 0);
    CHECK_STATUS(duly_call_set_value(NULL, NULL, NULL), none);
    CHECK_STATUS(duly_call_set_message(NULL, "x"), none);

    CHECK(!duly_report_drained(NULL));
    CHECK(duly_report_abandoned_count(NULL) == 0);
    CHECK_TEXT(duly_report_abandoned_label(NULL, 0), "");
    CHECK(duly_report_stuck_count(NULL) == 0);
    CHECK_TEXT(duly_report_stuck_label(NULL, 0), "");
    CHECK(duly_report_threads_left(NULL) == 0);
    CHECK(duly_report_elapsed_ns(NULL) == 0);
    CHECK_STATUS(duly_report_stats(NULL, &stats, sizeof stats), none);
    CHECK_TEXT(duly_report_text(NULL), "");
    CHECK(duly_report_retain(NULL) == NULL);
    duly_report_release(NULL);

    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    end_pool(pool);
}

static void p16_foreign_handles_are_refused(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    duly_outcome outcome;
    duly_stats stats;
    void *value;
    const duly_status foreign = DULY_STATUS_FOREIGN_HANDLE;
    /* As large as anything a copy of the library may have behind its handles. */
    uintptr_t memory[64] = {0x1234};
    void *others[] = {memory, (char *)memory + 1};
    OK(duly_task_wait_released(task, LONG));
    for (size_t i = 0; i < 2; i++) {
        void *other = others[i];
        CHECK_STATUS(duly_submit(other, NULL, run_nothing, NULL, NULL, NULL), foreign);
        CHECK_STATUS(duly_pool_stats(other, &stats, sizeof stats), foreign);
        CHECK_STATUS(duly_pool_close(other), foreign);
        CHECK_STATUS(duly_pool_shutdown(other, 0, NULL), foreign);
        CHECK(duly_pool_retain(other) == NULL);
        duly_pool_release(other);
        CHECK_STATUS(duly_task_wait(other, 0, &outcome), foreign);
        CHECK_STATUS(duly_task_outcome(other, &outcome), foreign);
        CHECK_STATUS(duly_task_take(other, &value), foreign);
        CHECK_STATUS(duly_task_wait_released(other, 0), foreign);
        CHECK_STATUS(duly_task_cancel(other), foreign);
        CHECK(duly_task_code(other) == 0);
        CHECK_TEXT(duly_task_message(other), "");
        CHECK(duly_task_retain(other) == NULL);
        duly_task_release(other);
        CHECK(!duly_call_is_cancelled(other));
        CHECK_STATUS(duly_call_set_value(other, NULL, NULL), foreign);
        CHECK_STATUS(duly_call_set_message(other, NULL), foreign);
        CHECK(duly_report_abandoned_count(other) == 0);
        duly_report_release(other);
    }
    CHECK_STATUS(duly_pool_close((duly_pool *)(void *)task), foreign);
    CHECK_STATUS(duly_task_wait((duly_task *)(void *)pool, 0, NULL), foreign);
    duly_task_release((duly_task *)(void *)pool);
    duly_task_release(task);
    end_pool(pool);
}

static void p16_options_of_another_version(void) {
    duly_pool *pool = NULL;
    struct {
        duly_pool_options known;
        uint64_t newer[2];
    } longer = {.known = DULY_POOL_OPTIONS_INIT};
    duly_task_options task_options = DULY_TASK_OPTIONS_INIT;
    /* 72 is the size of the first version, which is never too small. */
    const uint32_t wrong[] = {0, 1, 4, 8, 64, 4097, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        longer.known.size = wrong[i];
        CHECK_STATUS(duly_pool_new(&longer.known, &pool), DULY_STATUS_INVALID_ARGUMENT);
    }
    longer.known.size = sizeof longer;
    longer.newer[1] = 1;
    CHECK_STATUS(duly_pool_new(&longer.known, &pool), DULY_STATUS_UNSUPPORTED);
    longer.newer[1] = 0;
    longer.known.flags = 1u << 31;
    CHECK_STATUS(duly_pool_new(&longer.known, &pool), DULY_STATUS_UNSUPPORTED);
    CHECK(pool == NULL);
    longer.known.flags = 0;
    longer.known.workers = 1;
    OK(duly_pool_new(&longer.known, &pool));

    probe seen = {0};
    task_options.size = 8;
    CHECK_STATUS(duly_submit(pool, &task_options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_INVALID_ARGUMENT);
    task_options.size = sizeof task_options;
    task_options.flags = 2;
    CHECK_STATUS(duly_submit(pool, &task_options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_UNSUPPORTED);
    task_options.flags = 0;
    task_options.reserved = 1;
    CHECK_STATUS(duly_submit(pool, &task_options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_UNSUPPORTED);
    task_options.reserved = 0;
    const int32_t no_policies[] = {-1, DULY_OVERFLOW_CALLER_RUNS + 1, INT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        task_options.overflow = no_policies[i];
        CHECK_STATUS(duly_submit(pool, &task_options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_INVALID_ARGUMENT);
    }
    end_pool(pool);
    CHECK(seen.ran == 0 && seen.dropped == 0);
}

static void p16_init_functions_give_what_the_macros_give(void) {
    duly_pool_options by_macro = DULY_POOL_OPTIONS_INIT, by_function;
    duly_task_options task_by_macro = DULY_TASK_OPTIONS_INIT, task_by_function;
    memset(&by_function, 0xff, sizeof by_function);
    memset(&task_by_function, 0xff, sizeof task_by_function);
    OK(duly_pool_options_init(&by_function, sizeof by_function));
    OK(duly_task_options_init(&task_by_function, sizeof task_by_function));
    CHECK(memcmp(&by_macro, &by_function, sizeof by_macro) == 0);
    CHECK(memcmp(&task_by_macro, &task_by_function, sizeof task_by_macro) == 0);
    CHECK_STATUS(duly_pool_options_init(&by_function, 0), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_pool_options_init(&by_function, SIZE_MAX), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_task_options_init(&task_by_function, 31), DULY_STATUS_INVALID_ARGUMENT);
}

static void p16_absurd_numbers(void) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.workers = UINT32_MAX;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    options.workers = 1;
    options.overflow = 99;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    options.overflow = -1;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    options.overflow = DULY_OVERFLOW_BLOCK;
    options.threads = 3;
    CHECK_STATUS(duly_pool_new(&options, &pool), DULY_STATUS_INVALID_ARGUMENT);
    options.threads = DULY_THREADS_ON_DEMAND;
    options.stack_size = UINT64_MAX;
    duly_status status = duly_pool_new(&options, &pool);
    CHECK(status == DULY_STATUS_INVALID_ARGUMENT || status == DULY_STATUS_NO_THREADS);
    CHECK(pool == NULL);
    options.stack_size = 0;
    options.default_timeout_ns = UINT64_MAX - 1;
    options.replace_after_ns = DULY_FOREVER;
    options.drop_drain_ns = DULY_FOREVER;
    OK(duly_pool_new(&options, &pool));
    duly_task *task = submit_within(pool, UINT64_MAX - 1, run_nothing, NULL, NULL);
    OK(duly_task_wait(task, UINT64_MAX - 1, NULL));
    OK(duly_task_wait_released(task, UINT64_MAX - 1));
    duly_task_release(task);
    task = submit_within(pool, 1, run_nothing, NULL, NULL);
    OK(duly_task_wait(task, DULY_FOREVER, NULL));
    duly_task_release(task);
    OK(duly_pool_shutdown(pool, DULY_FOREVER, NULL));
    duly_pool_release(pool);
}

static void p16_stats_of_another_version(void) {
    duly_pool *pool = make_pool(3, 0, DULY_OVERFLOW_DEFAULT);
    struct {
        duly_stats known;
        uint64_t newer[2];
    } longer;
    memset(&longer, 0xff, sizeof longer);
    CHECK_STATUS(duly_pool_stats(pool, &longer.known, sizeof(duly_stats) - 1), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_pool_stats(pool, &longer.known, SIZE_MAX), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(longer.known.submitted == UINT64_MAX);
    OK(duly_pool_stats(pool, &longer.known, sizeof longer));
    CHECK(longer.known.submitted == 0 && longer.newer[0] == 0 && longer.newer[1] == 0);
    end_pool(pool);
}

static void p16_ended_pools_and_tasks_answer(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    duly_stats stats;
    probe seen = {0};
    OK(duly_pool_shutdown(pool, LONG, NULL));
    CHECK_STATUS(duly_submit(pool, NULL, run_probe, &seen, drop_probe, NULL), DULY_STATUS_SHUT_DOWN);
    CHECK_STATUS(duly_try_submit(pool, NULL, run_probe, &seen, drop_probe, NULL), DULY_STATUS_SHUT_DOWN);
    CHECK(seen.dropped == 0);
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    CHECK(stats.submitted == 1 && stats.succeeded == 1);
    OK(duly_pool_close(pool));
    OK(duly_pool_shutdown(pool, 0, NULL));
    duly_pool_release(pool);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK_STATUS(duly_task_cancel(task), DULY_STATUS_ENDED);
    OK(duly_task_wait_released(task, 0));
    duly_task_release(task);
}

static void p16_names_of_any_number(void) {
    CHECK_TEXT(duly_status_name(DULY_STATUS_OK), "ok");
    CHECK_TEXT(duly_status_name(DULY_STATUS_QUEUE_FULL), "queue_full");
    CHECK_TEXT(duly_status_name(DULY_STATUS_SUBMIT_TIMED_OUT), "submit_timed_out");
    CHECK_TEXT(duly_status_name(DULY_STATUS_DEADLINE_EXCEEDED), "deadline_exceeded");
    CHECK_TEXT(duly_status_name(DULY_STATUS_CANCELLED), "cancelled");
    CHECK_TEXT(duly_status_name(DULY_STATUS_SHUT_DOWN), "shut_down");
    CHECK_TEXT(duly_status_name(DULY_STATUS_WOULD_DEADLOCK), "would_deadlock");
    CHECK_TEXT(duly_status_name(DULY_STATUS_INVALID_ARGUMENT), "invalid_argument");
    CHECK_TEXT(duly_outcome_name(DULY_SUCCEEDED), "succeeded");
    CHECK_TEXT(duly_outcome_name(DULY_FAILED), "failed");
    CHECK_TEXT(duly_outcome_name(DULY_PANICKED), "panicked");
    CHECK_TEXT(duly_outcome_name(DULY_CANCELLED), "cancelled");
    CHECK_TEXT(duly_outcome_name(DULY_DEADLINE_EXCEEDED), "deadline_exceeded");
    CHECK_TEXT(duly_outcome_name(DULY_SHED), "shed");
    CHECK_TEXT(duly_outcome_name(DULY_ABANDONED), "abandoned");
    const int32_t numbers[] = {1, 99, -99, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK_TEXT(duly_status_name(numbers[i]), "unknown_status");
        CHECK(strlen(duly_status_message(numbers[i])) > 0);
        if (numbers[i] != 1)
            CHECK_TEXT(duly_outcome_name(numbers[i]), "unknown_outcome");
    }
    CHECK_TEXT(duly_outcome_name(0), "unknown_outcome");
    CHECK(strlen(duly_status_message(DULY_STATUS_TIMED_OUT)) > 0);
}

MAIN(TEST(p16_null_everywhere), TEST(p16_foreign_handles_are_refused), TEST(p16_options_of_another_version),
     TEST(p16_init_functions_give_what_the_macros_give), TEST(p16_absurd_numbers), TEST(p16_stats_of_another_version),
     TEST(p16_ended_pools_and_tasks_answer), TEST(p16_names_of_any_number));
