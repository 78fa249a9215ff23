/* P1, P4, P5, P6, P10, P16: waits for several tasks, groups, streams, single flights. */
#include "check.h"

static int32_t run_fails(void *data, duly_call *call) {
    OK(duly_call_set_message(call, "as planned"));
    return data == NULL ? 7 : *(int32_t *)data;
}

/* Until its task has ended. */
static int32_t run_until_cancelled(void *data, duly_call *call) {
    probe *seen = data;
    seen->ran++;
    CHECK(UNTIL(duly_call_is_cancelled(call)));
    return 0;
}

/* ---- several ---- */

static void p01_any_is_the_first_that_ended_and_all_is_all(void) {
    duly_pool *pool = make_pool(3, 0, DULY_OVERFLOW_DEFAULT);
    gate first = GATE_INIT, second = GATE_INIT;
    duly_task *both[2] = {submit(pool, run_gate, &first, NULL), submit(pool, run_gate, &second, NULL)};
    const duly_task *const *tasks = (const duly_task *const *)both;
    size_t place = 77;
    CHECK_STATUS(duly_wait_any(tasks, 2, 0, &place), DULY_STATUS_TIMED_OUT);
    CHECK_STATUS(duly_wait_any(tasks, 2, 20 * MS, &place), DULY_STATUS_TIMED_OUT);
    CHECK(place == 77);
    gate_open(&second);
    OK(duly_wait_any(tasks, 2, DULY_FOREVER, &place));
    CHECK(place == 1);
    CHECK_STATUS(duly_wait_all(tasks, 2, 20 * MS), DULY_STATUS_TIMED_OUT);
    const duly_task *turned[2] = {both[1], both[0]};
    CHECK_STATUS(duly_wait_all(turned, 2, 20 * MS), DULY_STATUS_TIMED_OUT);
    gate_open(&first);
    OK(duly_wait_all(tasks, 2, DULY_FOREVER));
    OK(duly_wait_any(tasks, 2, 0, NULL));
    OK(duly_wait_all(NULL, 0, 0));
    duly_task_release(both[0]);
    duly_task_release(both[1]);
    end_pool(pool);
}

static void p16_several_of_bad_input(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    const duly_task *tasks[3] = {task, NULL, (const duly_task *)pool};
    size_t place = 0;
    CHECK_STATUS(duly_wait_any(NULL, 1, 0, &place), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_wait_any(tasks, 0, 0, &place), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_wait_any(tasks, 2, 0, &place), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_wait_all(tasks, 2, 0), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_wait_all(tasks + 2, 1, 0), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_STATUS(duly_wait_all(tasks, SIZE_MAX, 0), DULY_STATUS_INVALID_ARGUMENT);
    OK(duly_wait_all(tasks, 1, LONG));
    duly_task_release(task);
    end_pool(pool);
}

/* ---- groups ---- */

static duly_group *make_group(duly_pool *pool, const duly_group_options *options) {
    duly_group *group = NULL;
    OK(duly_group_new(pool, options, &group));
    if (group == NULL)
        exit(1);
    return group;
}

static void p01_a_group_has_one_result_and_its_members_their_own(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_group_options options = DULY_GROUP_OPTIONS_INIT;
    options.label = "crew";
    options.flags = DULY_GROUP_GO_ON;
    duly_group *group = make_group(pool, &options);
    duly_group_result *result = NULL;
    duly_task_options named = DULY_TASK_OPTIONS_INIT;
    duly_task *failed = NULL;
    probe seen = {0};
    named.label = "bad one";
    OK(duly_group_submit(group, NULL, run_probe, &seen, drop_probe, NULL));
    OK(duly_group_submit(group, &named, run_fails, NULL, NULL, &failed));
    OK(duly_group_try_submit(group, NULL, run_probe, &seen, drop_probe, NULL));
    OK(duly_group_wait(group, DULY_FOREVER, &result));
    CHECK(!duly_group_result_succeeded(result) && seen.ran == 2 && seen.dropped == 2);
    CHECK(duly_group_result_count(result, DULY_SUCCEEDED) == 2 && duly_group_result_count(result, DULY_FAILED) == 1);
    CHECK(duly_group_result_count(result, 0) == 0 && duly_group_result_error_count(result) == 1);
    size_t member = 77;
    duly_task *error = duly_group_result_error(result, 0, &member);
    CHECK(member == 1 && duly_group_result_error(result, 1, &member) == NULL);
    CHECK_OUTCOME(error, DULY_FAILED);
    CHECK(duly_task_code(error) == 7);
    CHECK_TEXT(duly_task_message(error), "as planned");
    CHECK_TEXT(duly_task_label(error), "bad one");
    CHECK(strstr(duly_group_result_text(result), "as planned") != NULL);
    /* The member's own handle says the same. */
    CHECK(duly_task_code(failed) == 7);
    CHECK_TEXT(duly_task_message(failed), "as planned");
    /* An error outlives the result when it is retained; there is nothing to take, cancel or wait for. */
    CHECK(duly_task_retain(error) == error && duly_group_result_retain(result) == result);
    duly_group_result_release(result);
    duly_group_result_release(result);
    void *value = NULL;
    CHECK_STATUS(duly_task_take(error, &value), DULY_STATUS_NO_VALUE);
    CHECK_STATUS(duly_task_cancel(error), DULY_STATUS_ENDED);
    OK(duly_task_wait_released(error, 0));
    duly_task_release(error);
    duly_task_release(failed);
    /* It has ended: no more are accepted. */
    probe late = {0};
    CHECK_STATUS(duly_group_submit(group, NULL, run_probe, &late, drop_probe, NULL), DULY_STATUS_CANCELLED);
    CHECK(late.ran == 0 && late.dropped == 0);
    duly_group_release(group);
    end_pool(pool);
}

static void p01_the_first_failure_cancels_the_rest(void) {
    duly_pool *pool = make_pool(3, 0, DULY_OVERFLOW_DEFAULT);
    duly_group *group = make_group(pool, NULL);
    duly_group_result *result = NULL;
    probe seen = {0};
    OK(duly_group_submit(group, NULL, run_until_cancelled, &seen, NULL, NULL));
    CHECK_STATUS(duly_group_wait(group, 10 * MS, &result), DULY_STATUS_TIMED_OUT);
    OK(duly_group_submit(group, NULL, run_fails, NULL, NULL, NULL));
    OK(duly_group_wait(group, LONG, &result));
    CHECK(duly_group_result_count(result, DULY_CANCELLED) == 1 && duly_group_result_cancelled_by_group(result) == 1);
    CHECK(duly_group_result_error_count(result) == 1);
    duly_group_result_release(result);
    duly_group_release(group);
    end_pool(pool);
}

static void p06_the_last_release_cancels_unless_it_was_detached(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    for (int detached = 0; detached < 2; detached++) {
        duly_group *group = make_group(pool, NULL);
        gate door = GATE_INIT;
        duly_task *task = NULL;
        OK(duly_group_submit(group, NULL, run_gate, &door, NULL, &task));
        gate_wait_entered(&door, 1);
        if (detached)
            OK(duly_group_detach(group));
        CHECK(duly_group_retain(group) == group);
        duly_group_release(group);
        CHECK_STATUS(duly_task_outcome(task, NULL), DULY_STATUS_PENDING);
        duly_group_release(group);
        if (!detached)
            CHECK_OUTCOME(task, DULY_CANCELLED);
        gate_open(&door);
        CHECK_OUTCOME(task, detached ? DULY_SUCCEEDED : DULY_CANCELLED);
        OK(duly_task_wait_released(task, LONG));
        duly_task_release(task);
    }
    end_pool(pool);
}

static void p05_a_full_group_refuses_and_cancel_ends_it(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_group_options options;
    OK(duly_group_options_init(&options, sizeof options));
    options.limit = 1;
    duly_group *group = make_group(pool, &options);
    probe seen = {0}, refused = {0};
    duly_task *task = NULL;
    OK(duly_group_submit(group, NULL, run_until_cancelled, &seen, NULL, &task));
    CHECK_STATUS(duly_group_try_submit(group, NULL, run_probe, &refused, drop_probe, NULL), DULY_STATUS_QUEUE_FULL);
    duly_task_options within = DULY_TASK_OPTIONS_INIT;
    within.submit_timeout_ns = 20 * MS;
    CHECK_STATUS(duly_group_submit(group, &within, run_probe, &refused, drop_probe, NULL), DULY_STATUS_SUBMIT_TIMED_OUT);
    CHECK(refused.dropped == 0);
    OK(duly_group_cancel(group, "enough"));
    CHECK_OUTCOME(task, DULY_CANCELLED);
    CHECK_TEXT(duly_task_reason(task), "enough");
    OK(duly_group_wait(group, LONG, NULL));
    duly_task_release(task);
    duly_group_release(group);
    end_pool(pool);
}

static void p01_members_go_to_a_completion_queue_too(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    duly_group *group = make_group(pool, NULL);
    duly_completions *completions = NULL;
    duly_completion taken;
    size_t count;
    duly_task *task = NULL;
    OK(duly_completions_new(1, &completions));
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.completions = completions;
    options.tag = 9;
    OK(duly_group_submit(group, &options, run_fails, NULL, NULL, &task));
    OK(duly_completions_take(completions, LONG, &taken, 1, &count));
    CHECK(taken.tag == 9 && taken.task == task && taken.outcome == DULY_FAILED && duly_task_code(task) == 7);
    duly_task_release(taken.task);
    duly_task_release(task);
    OK(duly_group_wait(group, LONG, NULL));
    duly_group_release(group);
    duly_completions_release(completions);
    end_pool(pool);
}

typedef struct {
    duly_pool *pool;
    duly_group *group;
} nested;

static int32_t run_group_inside(void *data, duly_call *call) {
    nested *me = data;
    duly_group_result *result = NULL;
    (void)call;
    for (int i = 0; i < 4; i++)
        OK(duly_group_submit(me->group, NULL, run_nothing, NULL, NULL, NULL));
    OK(duly_group_wait(me->group, DULY_FOREVER, &result));
    const int32_t code = duly_group_result_count(result, DULY_SUCCEEDED) == 4 ? 0 : 1;
    duly_group_result_release(result);
    return code;
}

static void p10_a_group_is_waited_for_inside_a_callback(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    nested me = {pool, make_group(pool, NULL)};
    duly_task *task = submit(pool, run_group_inside, &me, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    duly_group_release(me.group);
    end_pool(pool);
}

/* ---- streams ---- */

typedef struct {
    uintptr_t next, end;
    atomic_int pulled, dropped;
} numbers;

static bool next_number(void *data, void **item) {
    numbers *me = data;
    if (me->next == me->end)
        return false;
    atomic_fetch_add(&me->pulled, 1);
    *item = (void *)++me->next;
    return true;
}

static void drop_numbers(void *data) { ((numbers *)data)->dropped++; }

static atomic_int items_dropped;
static void drop_item(void *item) {
    (void)item;
    atomic_fetch_add(&items_dropped, 1);
}

/* The square; number 3 fails. */
static int32_t run_square(void *data, void *item, duly_call *call) {
    const uintptr_t number = (uintptr_t)item;
    (void)data;
    if (number == 3)
        return 3;
    OK(duly_call_set_value(call, (void *)(number * number), NULL));
    return 0;
}

static void p01_a_stream_answers_each_item_once_and_in_order(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    static numbers from, shared;
    from.end = 100;
    duly_stream_options options = DULY_STREAM_OPTIONS_INIT;
    duly_stream *stream = NULL;
    duly_task *answer = NULL;
    items_dropped = 0;
    options.window = 5;
    options.drop_item = drop_item;
    OK(duly_stream_new(pool, &options, next_number, &from, drop_numbers, run_square, &shared, drop_numbers, &stream));
    CHECK(from.pulled == 0);
    for (uintptr_t number = 1; number <= 100; number++) {
        void *value = NULL;
        OK(duly_stream_next(stream, number % 2 ? LONG : DULY_FOREVER, &answer));
        if (number == 3) {
            CHECK_OUTCOME(answer, DULY_FAILED);
            CHECK(duly_task_code(answer) == 3);
        } else {
            CHECK_OUTCOME(answer, DULY_SUCCEEDED);
            OK(duly_task_take(answer, &value));
            CHECK(value == (void *)(number * number));
            CHECK_STATUS(duly_task_take(answer, &value), DULY_STATUS_TAKEN);
        }
        CHECK((uintptr_t)from.pulled <= number + 5);
        duly_task_release(answer);
    }
    OK(duly_stream_next(stream, LONG, &answer));
    CHECK(answer == NULL);
    OK(duly_stream_next(stream, LONG, &answer));
    CHECK(answer == NULL);
    CHECK(duly_stream_retain(stream) == stream);
    duly_stream_release(stream);
    duly_stream_release(stream);
    end_pool(pool);
    CHECK(items_dropped == 100 && from.dropped == 1 && shared.dropped == 1);
}

static int32_t run_item_gate(void *data, void *item, duly_call *call) {
    return item == (void *)2 ? 0 : run_gate(data, call);
}

static void p04_a_stream_waits_no_longer_than_asked_and_leaves_nothing(void) {
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    numbers from = {0, UINTPTR_MAX, 0, 0};
    gate door = GATE_INIT;
    duly_stream_options options = DULY_STREAM_OPTIONS_INIT;
    duly_stream *stream = NULL;
    duly_task *answer = NULL;
    items_dropped = 0;
    options.window = 2;
    options.flags = DULY_STREAM_UNORDERED;
    options.drop_item = drop_item;
    OK(duly_stream_new(pool, &options, next_number, &from, drop_numbers, run_item_gate, &door, NULL, &stream));
    /* The second answers first. Then both places are held by those that wait. */
    OK(duly_stream_next(stream, LONG, &answer));
    CHECK_OUTCOME(answer, DULY_SUCCEEDED);
    duly_task_release(answer);
    CHECK_STATUS(duly_stream_next(stream, 20 * MS, &answer), DULY_STATUS_TIMED_OUT);
    duly_stream_release(stream);
    CHECK(from.dropped == 1);
    gate_open(&door);
    end_pool(pool);
    CHECK(items_dropped == from.pulled);
}

static duly_stream *itself;
static bool next_asks_itself(void *data, void **item) {
    duly_task *answer = NULL;
    (void)data;
    (void)item;
    CHECK_STATUS(duly_stream_next(itself, LONG, &answer), DULY_STATUS_INVALID_ARGUMENT);
    return false;
}

static void p16_streams_of_bad_input(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    numbers from = {0, 5, 0, 0};
    duly_stream *stream = NULL;
    duly_task *answer = NULL;
    CHECK_STATUS(duly_stream_new(pool, NULL, NULL, &from, drop_numbers, run_square, NULL, NULL, &stream),
                 DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_stream_new(pool, NULL, next_number, &from, drop_numbers, NULL, NULL, NULL, &stream), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_stream_new(NULL, NULL, next_number, &from, drop_numbers, run_square, NULL, NULL, &stream), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_stream_new(pool, NULL, next_number, &from, drop_numbers, run_square, NULL, NULL, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK(from.dropped == 0 && stream == NULL);
    OK(duly_stream_new(pool, NULL, next_asks_itself, NULL, NULL, run_square, NULL, NULL, &itself));
    OK(duly_stream_next(itself, LONG, &answer));
    CHECK(answer == NULL);
    duly_stream_release(itself);
    /* Items that a closed pool refuses come back with the status, one by one, and then the end. */
    OK(duly_stream_new(pool, NULL, next_number, &from, drop_numbers, run_square, NULL, NULL, &stream));
    OK(duly_pool_close(pool));
    for (int i = 0; i < 5; i++)
        CHECK_STATUS(duly_stream_next(stream, LONG, &answer), DULY_STATUS_SHUT_DOWN);
    OK(duly_stream_next(stream, LONG, &answer));
    CHECK(answer == NULL && from.pulled == 5);
    CHECK_STATUS(duly_stream_next(NULL, 0, &answer), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_stream_next(stream, 0, NULL), DULY_STATUS_NULL_ARGUMENT);
    duly_stream_release(stream);
    duly_stream_release(NULL);
    end_pool(pool);
}

/* ---- single flights ---- */

typedef struct {
    duly_flight *flight;
    gate door;
    atomic_int runs, dropped, value_dropped, answered;
} shared_run;

static void drop_value(void *data) { atomic_fetch_add(&((shared_run *)data)->value_dropped, 1); }
static void drop_caller(void *data) { atomic_fetch_add(&((shared_run *)data)->dropped, 1); }

static int32_t run_shared(void *data, duly_call *call) {
    shared_run *me = data;
    atomic_fetch_add(&me->runs, 1);
    run_gate(&me->door, call);
    OK(duly_call_set_value(call, me, drop_value));
    return 0;
}

static void *call_flight(void *data) {
    shared_run *me = data;
    duly_task *answer = NULL;
    void *value = NULL;
    OK(duly_flight_run(me->flight, "key", 3, NULL, run_shared, me, drop_caller, &answer));
    atomic_fetch_add(&me->answered, 1);
    CHECK_OUTCOME(answer, DULY_SUCCEEDED);
    OK(duly_flight_value(answer, &value));
    CHECK(value == me);
    /* It is everybody's. */
    CHECK_STATUS(duly_task_take(answer, &value), DULY_STATUS_TAKEN);
    return answer;
}

static void p01_callers_of_a_key_share_one_run(void) {
    enum { CALLERS = 4 };
    duly_pool *pool = make_pool(2, 0, DULY_OVERFLOW_DEFAULT);
    static shared_run me = {NULL, GATE_INIT, 0, 0, 0, 0};
    pthread_t callers[CALLERS];
    duly_task *answers[CALLERS];
    OK(duly_flight_new(pool, NULL, &me.flight));
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&callers[i], NULL, call_flight, &me);
    gate_wait_entered(&me.door, 1);
    CHECK(duly_flight_key_count(me.flight) == 1);
    /* One whose time is up before: that is its answer, and the run goes on. */
    duly_task_options within = DULY_TASK_OPTIONS_INIT;
    duly_task *late = NULL;
    within.timeout_ns = 20 * MS;
    OK(duly_flight_run(me.flight, "key", 3, &within, run_shared, &me, drop_caller, &late));
    CHECK_OUTCOME(late, DULY_DEADLINE_EXCEEDED);
    void *value = NULL;
    CHECK_STATUS(duly_flight_value(late, &value), DULY_STATUS_NO_VALUE);
    duly_task_release(late);
    CHECK(me.answered == 0);
    gate_open(&me.door);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], (void **)&answers[i]);
    CHECK(me.runs >= 1 && me.runs <= CALLERS);
    CHECK(UNTIL(me.dropped == CALLERS + 1));
    for (int i = 0; i < CALLERS; i++)
        duly_task_release(answers[i]);
    CHECK(UNTIL(me.value_dropped == me.runs));
    CHECK(duly_flight_key_count(me.flight) == 0);
    duly_flight_release(me.flight);
    end_pool(pool);
}

static void p01_a_failed_run_is_an_answer(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_flight *flight = NULL;
    duly_task *answer = NULL;
    OK(duly_flight_new(pool, NULL, &flight));
    OK(duly_flight_run(flight, NULL, 0, NULL, run_fails, NULL, NULL, &answer));
    CHECK_OUTCOME(answer, DULY_FAILED);
    CHECK(duly_task_code(answer) == 7);
    CHECK_TEXT(duly_task_message(answer), "as planned");
    duly_task_release(answer);
    /* A refusal leaves user_data alone. */
    OK(duly_pool_close(pool));
    probe seen = {0};
    CHECK_STATUS(duly_flight_run(flight, "k", 1, NULL, run_probe, &seen, drop_probe, &answer), DULY_STATUS_SHUT_DOWN);
    CHECK(seen.ran == 0 && seen.dropped == 0);
    CHECK_STATUS(duly_flight_run(flight, NULL, 1, NULL, run_probe, &seen, drop_probe, &answer), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_flight_run(flight, "k", 1, NULL, NULL, &seen, drop_probe, &answer), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_flight_run(NULL, "k", 1, NULL, run_probe, &seen, drop_probe, &answer), DULY_STATUS_NULL_ARGUMENT);
    duly_task_options named = DULY_TASK_OPTIONS_INIT;
    named.label = "not here";
    CHECK_STATUS(duly_flight_run(flight, "k", 1, &named, run_probe, &seen, drop_probe, &answer), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(seen.dropped == 0 && duly_flight_retain(flight) == flight);
    duly_flight_release(flight);
    duly_flight_release(flight);
    end_pool(pool);
}

MAIN(TEST(p01_any_is_the_first_that_ended_and_all_is_all), TEST(p16_several_of_bad_input),
     TEST(p01_a_group_has_one_result_and_its_members_their_own), TEST(p01_the_first_failure_cancels_the_rest),
     TEST(p06_the_last_release_cancels_unless_it_was_detached), TEST(p05_a_full_group_refuses_and_cancel_ends_it),
     TEST(p01_members_go_to_a_completion_queue_too), TEST(p10_a_group_is_waited_for_inside_a_callback),
     TEST(p01_a_stream_answers_each_item_once_and_in_order), TEST(p04_a_stream_waits_no_longer_than_asked_and_leaves_nothing),
     TEST(p16_streams_of_bad_input), TEST(p01_callers_of_a_key_share_one_run), TEST(p01_a_failed_run_is_an_answer));
