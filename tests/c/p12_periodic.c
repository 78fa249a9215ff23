/* P12: a periodic task's runs are tasks in the books, each tick is a run or missed; it ends once, and so does its data. */
#include "check.h"

typedef struct {
    probe seen;
    int32_t code;
    atomic_int overlapped;
    gate *door;
} job;

static int32_t run_job(void *data, duly_call *call) {
    job *me = data;
    if (atomic_exchange(&me->seen.inside, 1))
        atomic_store(&me->overlapped, 1);
    atomic_fetch_add(&me->seen.ran, 1);
    if (me->door)
        run_gate(me->door, call);
    duly_call_set_message(call, "as planned");
    atomic_store(&me->seen.inside, 0);
    return me->code;
}

static void drop_job(void *data) {
    job *me = data;
    drop_probe(&me->seen);
}

static duly_periodic *every(duly_pool *pool, duly_periodic_options options, uint64_t period_ns, job *me) {
    duly_periodic *periodic = NULL;
    options.period_ns = period_ns;
    OK(duly_pool_every(pool, &options, run_job, me, drop_job, &periodic));
    return periodic;
}

static duly_periodic_numbers numbers_of(const duly_periodic *periodic) {
    duly_periodic_numbers numbers = {0};
    OK(duly_periodic_stats(periodic, &numbers, sizeof numbers));
    return numbers;
}

static void p12_a_periodic_task_runs_until_it_is_cancelled_and_its_data_goes_once(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    const duly_periodic_options defaults = DULY_PERIODIC_OPTIONS_INIT;
    job me = {0};
    duly_stats stats;
    int32_t end = 0;
    const uint64_t began = now_ns();
    duly_periodic *periodic = every(pool, defaults, 5 * MS, &me);
    CHECK(UNTIL(numbers_of(periodic).runs >= 3));
    CHECK(now_ns() - began >= 15 * MS);
    CHECK_STATUS(duly_periodic_wait(periodic, 0, &end), DULY_STATUS_TIMED_OUT);
    CHECK(end == 0);
    CHECK_TEXT(duly_periodic_reason(periodic), "");
    CHECK(duly_periodic_retain(periodic) == periodic);
    OK(duly_periodic_cancel_with(periodic, "enough"));
    CHECK_STATUS(duly_periodic_cancel(periodic), DULY_STATUS_ENDED);
    OK(duly_periodic_wait(periodic, DULY_FOREVER, &end));
    CHECK(end == DULY_PERIODIC_CANCELLED);
    CHECK_TEXT(duly_periodic_reason(periodic), "enough");
    CHECK(UNTIL(me.seen.dropped == 1));
    CHECK(UNTIL(numbers_of(periodic).active == 0));
    int ran = me.seen.ran;
    duly_periodic_numbers numbers = numbers_of(periodic);
    CHECK(numbers.runs == (uint64_t)ran && numbers.active == 0 && numbers.failures <= 1);
    OK(duly_pool_stats(pool, &stats, sizeof stats));
    CHECK(stats.submitted >= numbers.runs && duly_stats_balance(&stats));
    CHECK(me.overlapped == 0 && me.seen.overlapped == 0);
    duly_periodic_release(periodic);
    duly_periodic_release(periodic);
    end_pool(pool);
    CHECK(me.seen.ran == ran && me.seen.dropped == 1);
}

static void p12_failures_in_a_row_end_it(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    job me = {.code = 7};
    int32_t end = 0;
    options.max_failures = 3;
    duly_periodic *periodic = every(pool, options, MS, &me);
    OK(duly_periodic_wait(periodic, LONG, &end));
    CHECK(end == DULY_PERIODIC_FAILED);
    CHECK(numbers_of(periodic).failures == 3 && me.seen.ran == 3);
    CHECK_TEXT(duly_periodic_reason(periodic), "");
    duly_periodic_release(periodic);
    CHECK(UNTIL(me.seen.dropped == 1));
    end_pool(pool);
}

static void p12_a_run_that_takes_long_makes_ticks_missed_or_made_up_for(void) {
    for (int catch_up = 0; catch_up < 2; catch_up++) {
        duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
        duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
        gate door = GATE_INIT;
        job me = {.door = &door};
        options.flags = catch_up ? DULY_PERIODIC_CATCH_UP : 0;
        duly_periodic *periodic = every(pool, options, 2 * MS, &me);
        gate_wait_entered(&door, 1);
        const uint64_t entered = now_ns();
        if (catch_up)
            CHECK(UNTIL(now_ns() - entered > 20 * MS));
        else
            CHECK(UNTIL(numbers_of(periodic).missed >= 5));
        CHECK(me.seen.ran == 1);
        gate_open(&door);
        CHECK(UNTIL(numbers_of(periodic).runs >= 9));
        if (catch_up)
            CHECK(numbers_of(periodic).missed == 0);
        OK(duly_periodic_cancel(periodic));
        duly_periodic_release(periodic);
        CHECK(UNTIL(me.seen.dropped == 1));
        end_pool(pool);
        CHECK(me.overlapped == 0 && me.seen.dropped == 1);
    }
}

static void p12_runs_overlap_if_they_may(void) {
    duly_pool *pool = make_pool(3, 0, DULY_OVERFLOW_DEFAULT);
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    gate door = GATE_INIT;
    job me = {.door = &door};
    options.flags = DULY_PERIODIC_OVERLAP;
    duly_periodic *periodic = every(pool, options, MS, &me);
    gate_wait_entered(&door, 3);
    gate_open(&door);
    OK(duly_periodic_cancel(periodic));
    duly_periodic_release(periodic);
    CHECK(UNTIL(me.seen.dropped == 1));
    end_pool(pool);
    CHECK(me.seen.dropped == 1);
}

static void p02_a_token_and_a_closed_pool_end_it(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_options task = DULY_TASK_OPTIONS_INIT;
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_token *token = NULL, *own = NULL;
    job under = {0}, other = {0}, refused = {0};
    int32_t end = 0;
    OK(duly_token_new(&token));
    task.token = token;
    task.delay_ns = DULY_FOREVER;
    options.task = &task;
    duly_periodic *first = every(pool, options, 3600 * DULY_SECOND, &under);
    options.task = NULL;
    duly_periodic *second = every(pool, options, 3600 * DULY_SECOND, &other);
    OK(duly_periodic_token(second, &own));
    CHECK(!duly_token_is_cancelled(own));
    OK(duly_token_cancel_with(token, "its token"));
    OK(duly_periodic_wait(first, LONG, &end));
    CHECK(end == DULY_PERIODIC_CANCELLED);
    CHECK_TEXT(duly_periodic_reason(first), "its token");
    options.task = &task;
    options.period_ns = DULY_SECOND;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &refused, drop_job, NULL), DULY_STATUS_CANCELLED);
    OK(duly_pool_close(pool));
    OK(duly_periodic_wait(second, LONG, &end));
    CHECK(end == DULY_PERIODIC_SHUT_DOWN);
    options.task = NULL;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &refused, drop_job, NULL), DULY_STATUS_SHUT_DOWN);
    duly_periodic_release(first);
    duly_periodic_release(second);
    duly_token_release(token);
    duly_token_release(own);
    end_pool(pool);
    CHECK(UNTIL(under.seen.dropped == 1 && other.seen.dropped == 1));
    CHECK(under.seen.ran == 0 && other.seen.ran == 0 && refused.seen.dropped == 0);
}

static void p16_bad_periods_are_refused_and_take_nothing(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_task_options task = DULY_TASK_OPTIONS_INIT;
    duly_periodic *periodic = NULL;
    duly_periodic_numbers numbers;
    job me = {0};
    int32_t end = 0;
    const duly_status none = DULY_STATUS_NULL_ARGUMENT, invalid = DULY_STATUS_INVALID_ARGUMENT;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &me, drop_job, &periodic), invalid);
    options.period_ns = DULY_FOREVER;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &me, drop_job, &periodic), invalid);
    options.period_ns = MS;
    options.jitter_ns = MS;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &me, drop_job, &periodic), invalid);
    options.jitter_ns = 0;
    CHECK_STATUS(duly_pool_every(pool, &options, NULL, &me, drop_job, &periodic), invalid);
    CHECK_STATUS(duly_pool_every(pool, NULL, run_job, &me, drop_job, &periodic), none);
    CHECK_STATUS(duly_pool_every(NULL, &options, run_job, &me, drop_job, &periodic), none);
    options.flags = 4;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &me, drop_job, &periodic), DULY_STATUS_UNSUPPORTED);
    options.flags = 0;
    task.size = 8;
    options.task = &task;
    CHECK_STATUS(duly_pool_every(pool, &options, run_job, &me, drop_job, &periodic), invalid);
    CHECK(periodic == NULL && me.seen.dropped == 0 && me.seen.ran == 0);
    CHECK_STATUS(duly_periodic_cancel(NULL), none);
    CHECK_STATUS(duly_periodic_cancel_with(NULL, "x"), none);
    CHECK_STATUS(duly_periodic_wait(NULL, 0, &end), none);
    CHECK_STATUS(duly_periodic_stats(NULL, &numbers, sizeof numbers), none);
    CHECK_STATUS(duly_periodic_token(NULL, NULL), none);
    CHECK_STATUS(duly_periodic_wait((duly_periodic *)(void *)pool, 0, &end), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_TEXT(duly_periodic_reason(NULL), "");
    CHECK(duly_periodic_retain(NULL) == NULL);
    duly_periodic_release(NULL);
    end_pool(pool);
}

MAIN(TEST(p12_a_periodic_task_runs_until_it_is_cancelled_and_its_data_goes_once), TEST(p12_failures_in_a_row_end_it),
     TEST(p12_a_run_that_takes_long_makes_ticks_missed_or_made_up_for), TEST(p12_runs_overlap_if_they_may),
     TEST(p02_a_token_and_a_closed_pool_end_it), TEST(p16_bad_periods_are_refused_and_take_nothing));
