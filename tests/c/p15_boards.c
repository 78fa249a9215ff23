/* Boards and workers that are brought: how a language with threads of its own shares a pool. The language here is a few lines of
 * C: numbers are its callbacks, and a thread for each worker runs them. */
#include <sys/wait.h>

#include "check.h"

/* What a number does. */
enum { NOTHING, FAILS = 100, PANICS = 200, BLOCKS = 300, WAITS = 400 };

static duly_board *the_board;
static gate door;
/* Of each tag: how often it was run here, was run elsewhere, came back unrun, ended, had room. */
static atomic_int ran[512], elsewhere[512], unrun[512], ended[512], room[512];
static atomic_int told, working, woken;
static _Atomic(duly_task *) awaited;

static int32_t run_elsewhere(void *data, duly_call *call) {
    uint64_t tag = (uint64_t)(uintptr_t)data;
    atomic_fetch_add(&elsewhere[tag], 1);
    if (tag >= PANICS && tag < BLOCKS) {
        duly_call_set_message(call, "panicked elsewhere");
        return DULY_RUN_PANICKED;
    }
    return tag >= FAILS && tag < PANICS ? 9 : 0;
}

/* A worker that sleeps in its steps. */
static void *works(void *data) {
    duly_worker *worker = data;
    duly_step step = duly_worker_step(worker, 0, 0, 0, NULL, true);
    atomic_fetch_add(&working, 1);
    while (step.what != DULY_STEP_END) {
        if (step.what == DULY_STEP_NOTHING || step.what == DULY_STEP_OTHER) {
            step = duly_worker_step(worker, 0, 0, 0, NULL, true);
            continue;
        }
        uint64_t tag = step.tag;
        atomic_fetch_add(&ran[tag], 1);
        if (tag >= WAITS) {
            duly_task *task = NULL;
            CHECK(UNTIL((task = atomic_load(&awaited)) != NULL));
            OK(duly_worker_arrive(worker));
            OK(duly_task_wait(task, DULY_FOREVER, NULL));
            OK(duly_worker_depart(worker));
        } else if (tag >= BLOCKS) {
            run_gate(&door, NULL);
        }
        int32_t how = tag >= BLOCKS || tag < FAILS ? DULY_SUCCEEDED : tag < PANICS ? DULY_FAILED : DULY_PANICKED;
        step = duly_worker_step(worker, tag, how, 7, how == DULY_SUCCEEDED ? NULL : "in its own words", false);
    }
    atomic_fetch_sub(&working, 1);
    duly_worker_release(worker);
    return NULL;
}

static duly_worker *kept;

/* Reads the board until it is told 999. Workers of the pool 2 are kept for the test. */
static void *reads(void *data) {
    (void)data;
    for (;;) {
        duly_notice notices[4];
        size_t count = 0;
        OK(duly_board_take(the_board, DULY_FOREVER, notices, 4, &count));
        CHECK(count >= 1 && count <= 4);
        for (size_t i = 0; i < count; i++) {
            uint64_t tag = notices[i].tag;
            pthread_t thread;
            switch (notices[i].kind) {
            case DULY_NOTICE_TOLD:
                if (tag == 999) return NULL;
                atomic_fetch_add(&told, 1);
                break;
            case DULY_NOTICE_WORKER:
                if (tag == 2) {
                    kept = notices[i].worker;
                    atomic_fetch_add(&told, 1);
                    break;
                }
                CHECK(pthread_create(&thread, NULL, works, notices[i].worker) == 0);
                pthread_detach(thread);
                break;
            case DULY_NOTICE_ENDED:
                atomic_fetch_add(&ended[tag], 1);
                break;
            case DULY_NOTICE_UNRUN:
                atomic_fetch_add(&unrun[tag], 1);
                break;
            case DULY_NOTICE_ROOM:
                atomic_fetch_add(&room[tag], 1);
                break;
            case DULY_NOTICE_WAKE:
                atomic_fetch_add(&woken, 1);
                break;
            default:
                CHECK(!"a kind that there is");
            }
        }
    }
}

static pthread_t reader;

static void begin(void) {
    if (the_board == NULL) OK(duly_board_new(run_elsewhere, &the_board));
    for (int i = 0; i < 512; i++) {
        ran[i] = elsewhere[i] = unrun[i] = ended[i] = room[i] = 0;
    }
    told = woken = 0;
    awaited = NULL;
    door = (gate)GATE_INIT;
    CHECK(pthread_create(&reader, NULL, reads, NULL) == 0);
}

static void finish(duly_pool *pool) {
    end_pool(pool);
    CHECK(UNTIL(atomic_load(&working) == 0));
    OK(duly_board_tell(the_board, 999));
    pthread_join(reader, NULL);
}

static duly_pool *board_pool(uint32_t workers, uint32_t capacity, uint32_t replacements, uint64_t tag) {
    duly_pool *pool = NULL;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = workers;
    options.capacity = capacity;
    options.max_replacements = replacements;
    options.max_blocked_producers = 4;
    options.replace_after_ns = 10 * MS;
    OK(duly_board_pool(the_board, &options, tag, &pool));
    return pool;
}

static duly_task *of_board(duly_pool *pool, uint64_t tag) {
    duly_task *task = NULL;
    OK(duly_board_submit(the_board, pool, NULL, tag, false, &task));
    return task;
}

static void p01_callbacks_of_a_language_end_as_it_says(void) {
    begin();
    duly_pool *pool = board_pool(2, 0, 0, 1);
    duly_task *good = of_board(pool, 1), *bad = of_board(pool, FAILS), *worse = of_board(pool, PANICS);
    CHECK_OUTCOME(good, DULY_SUCCEEDED);
    CHECK_OUTCOME(bad, DULY_FAILED);
    CHECK_OUTCOME(worse, DULY_PANICKED);
    CHECK(duly_task_code(bad) == 7);
    CHECK_TEXT(duly_task_message(bad), "in its own words");
    CHECK_TEXT(duly_task_message(worse), "in its own words");
    CHECK(ran[1] == 1 && ran[FAILS] == 1 && ran[PANICS] == 1 && elsewhere[1] == 0);
    duly_task_release(good);
    duly_task_release(bad);
    duly_task_release(worse);
    finish(pool);
    CHECK(unrun[1] == 0 && unrun[FAILS] == 0 && unrun[PANICS] == 0);
}

static void p15_callbacks_of_c_run_on_its_workers_and_its_own_on_those_of_c(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, 0, 1), *native = make_pool(1, 4, DULY_OVERFLOW_BLOCK);
    duly_task *task = submit(pool, run_nothing, NULL, NULL);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    duly_task *good = of_board(native, 2), *bad = of_board(native, FAILS + 1), *worse = of_board(native, PANICS + 1);
    CHECK_OUTCOME(good, DULY_SUCCEEDED);
    CHECK_OUTCOME(bad, DULY_FAILED);
    CHECK_OUTCOME(worse, DULY_PANICKED);
    CHECK(duly_task_code(bad) == 9);
    CHECK_TEXT(duly_task_message(worse), "panicked elsewhere");
    CHECK(elsewhere[2] == 1 && ran[2] == 0);
    duly_task_release(good);
    duly_task_release(bad);
    duly_task_release(worse);
    end_pool(native);
    finish(pool);
}

static void p02_what_is_cancelled_in_the_queue_comes_back_unrun_and_whoever_watches_is_told(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, DULY_NONE, 1);
    duly_task *stuck = of_board(pool, BLOCKS), *queued = of_board(pool, 3);
    duly_watch *watch = NULL, *again = NULL;
    gate_wait_entered(&door, 1);
    OK(duly_board_watch(the_board, queued, 3, &watch));
    OK(duly_task_cancel(queued));
    CHECK(UNTIL(unrun[3] == 1 && ended[3] == 1));
    /* One that has ended: at once. */
    OK(duly_board_watch(the_board, queued, 3, &again));
    CHECK(UNTIL(ended[3] == 2));
    duly_watch_release(watch);
    duly_watch_release(again);
    /* A watch that is given up is silent. */
    OK(duly_board_watch(the_board, stuck, BLOCKS, &watch));
    duly_watch_release(watch);
    OK(duly_task_cancel(stuck));
    CHECK_OUTCOME(stuck, DULY_CANCELLED);
    CHECK_STATUS(duly_task_wait_released(stuck, 0), DULY_STATUS_TIMED_OUT);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    duly_task_release(stuck);
    duly_task_release(queued);
    finish(pool);
    CHECK(ran[3] == 0 && unrun[3] == 1 && ended[BLOCKS] == 0 && unrun[BLOCKS] == 0);
}

static void p04_an_offer_stands_in_line_without_a_thread(void) {
    begin();
    duly_pool *pool = board_pool(1, 1, DULY_NONE, 1);
    duly_task *stuck = of_board(pool, BLOCKS), *task = NULL;
    duly_offer *first = NULL, *second = NULL;
    gate_wait_entered(&door, 1);
    duly_task *queued = of_board(pool, 4);
    CHECK_STATUS(duly_board_submit(the_board, pool, NULL, 5, false, &task), DULY_STATUS_QUEUE_FULL);
    CHECK_STATUS(duly_board_offer(the_board, pool, NULL, 5, &task, &first), DULY_STATUS_PENDING);
    CHECK_STATUS(duly_board_offer(the_board, pool, NULL, 6, &task, &second), DULY_STATUS_PENDING);
    CHECK_STATUS(duly_offer_again(first, &task), DULY_STATUS_PENDING);
    CHECK_STATUS(duly_offer_again(second, &task), DULY_STATUS_PENDING);
    /* One leaves the line; the other has its turn when there is room. */
    duly_offer_release(first);
    CHECK(UNTIL(unrun[5] == 1));
    CHECK(room[6] == 0);
    OK(duly_task_cancel(queued));
    CHECK(UNTIL(room[6] >= 1));
    OK(duly_offer_again(second, &task));
    duly_offer_release(second);
    gate_open(&door);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK(ran[6] == 1 && ran[5] == 0);
    duly_task_release(task);
    duly_task_release(queued);
    duly_task_release(stuck);
    finish(pool);
}

static void p08_a_worker_of_the_language_that_is_stuck_is_replaced(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, 0, 1);
    duly_task *stuck = of_board(pool, BLOCKS);
    gate_wait_entered(&door, 1);
    OK(duly_task_cancel(stuck));
    duly_task *task = of_board(pool, 7);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    gate_open(&door);
    OK(duly_task_wait_released(stuck, LONG));
    CHECK(UNTIL(atomic_load(&working) == 1));
    duly_task_release(task);
    duly_task_release(stuck);
    finish(pool);
}

static void p10_a_wait_inside_a_callback_of_the_language_stalls_nothing(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, DULY_NONE, 1);
    duly_task *waits = of_board(pool, WAITS);
    /* No replacement is allowed: it runs inside the wait, on the thread that arrived. */
    duly_task *inner = of_board(pool, 8);
    atomic_store(&awaited, inner);
    CHECK_OUTCOME(waits, DULY_SUCCEEDED);
    CHECK_OUTCOME(inner, DULY_SUCCEEDED);
    CHECK(elsewhere[8] == 1 && ran[8] == 0);
    duly_task_release(waits);
    duly_task_release(inner);
    finish(pool);
}

static void p05_a_worker_that_dozes_is_put_up_or_gathered(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, DULY_NONE, 2);
    CHECK(UNTIL(atomic_load(&told) == 1));
    CHECK_STATUS(duly_worker_wake_with(kept, the_board, 0), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_worker_wake_with(NULL, the_board, 77), DULY_STATUS_NULL_ARGUMENT);
    OK(duly_worker_wake_with(kept, the_board, 77));
    CHECK(duly_worker_step(kept, 0, 0, 0, NULL, true).what == DULY_STEP_DOZE);
    CHECK(duly_worker_step(kept, 0, 0, 0, NULL, true).what == DULY_STEP_DOZE);
    /* Nobody gathers: the notice. */
    duly_task *task = of_board(pool, 1);
    CHECK(UNTIL(atomic_load(&woken) == 1));
    duly_step step = duly_worker_step(kept, 0, 0, 0, NULL, true);
    CHECK(step.what == DULY_STEP_RUN && step.tag == 1);
    step = duly_worker_step(kept, 1, DULY_SUCCEEDED, 0, NULL, true);
    CHECK(step.what == DULY_STEP_DOZE && step.decided == 1);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    duly_task_release(task);
    /* Gathered: no notice; a pair within a pair takes nothing away. */
    uint64_t before = duly_board_gather();
    task = of_board(pool, 2);
    uint64_t within = duly_board_gather();
    CHECK(duly_board_gathered(within) == 0);
    CHECK(duly_board_gathered(before) == 77);
    CHECK(atomic_load(&woken) == 1);
    step = duly_worker_step(kept, 0, 0, 0, NULL, true);
    CHECK(step.what == DULY_STEP_RUN && step.tag == 2);
    /* A callback of C is started by one step, and run by the next if that does not gather. */
    duly_task *native = submit(pool, run_nothing, NULL, NULL);
    step = duly_worker_step(kept, 2, DULY_SUCCEEDED, 0, NULL, true);
    CHECK(step.what == DULY_STEP_OTHER && step.decided == 1);
    step = duly_worker_step(kept, 0, 0, 0, NULL, true);
    CHECK(step.what == DULY_STEP_DOZE);
    CHECK_OUTCOME(native, DULY_SUCCEEDED);
    duly_task_release(task);
    duly_task_release(native);
    OK(duly_pool_close(pool));
    CHECK(UNTIL(duly_worker_step(kept, 0, 0, 0, NULL, true).what == DULY_STEP_END));
    duly_worker_release(kept);
    finish(pool);
}

/* Told of an outcome: submits, and waits until the worker that dozes is put up for that. */
static void submits_and_waits(void *data, duly_outcome outcome) {
    (void)outcome;
    int before = atomic_load(&woken);
    duly_task *task = of_board(data, 9);
    CHECK(UNTIL(atomic_load(&woken) > before));
    duly_task_release(task);
}

/* Told of an outcome: waits until the worker that was woken before is put up. */
static void waits_for_the_one_before(void *data, duly_outcome outcome) {
    (void)data, (void)outcome;
    CHECK(UNTIL(atomic_load(&woken) == 2));
}

static void p04_who_is_woken_around_a_callback_that_is_told_is_not_gathered(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, DULY_NONE, 2), *native = make_pool(1, 4, DULY_OVERFLOW_BLOCK);
    CHECK(UNTIL(atomic_load(&told) == 1));
    OK(duly_worker_wake_with(kept, the_board, 77));
    CHECK(duly_worker_step(kept, 0, 0, 0, NULL, true).what == DULY_STEP_DOZE);
    /* One that has ended: who asks to be told is told here and now. */
    duly_task *over = submit(native, run_nothing, NULL, NULL);
    CHECK_OUTCOME(over, DULY_SUCCEEDED);
    uint64_t before = duly_board_gather();
    OK(duly_task_on_complete(over, submits_and_waits, pool, NULL));
    CHECK(duly_board_gathered(before) == 0);
    duly_step step = duly_worker_step(kept, 0, 0, 0, NULL, true);
    CHECK(step.what == DULY_STEP_RUN && step.tag == 9);
    CHECK(duly_worker_step(kept, 9, DULY_SUCCEEDED, 0, NULL, true).what == DULY_STEP_DOZE);
    before = duly_board_gather();
    duly_task *task = of_board(pool, 10);
    OK(duly_task_on_complete(over, waits_for_the_one_before, NULL, NULL));
    CHECK(duly_board_gathered(before) == 0);
    step = duly_worker_step(kept, 0, 0, 0, NULL, true);
    CHECK(step.what == DULY_STEP_RUN && step.tag == 10);
    CHECK(duly_worker_step(kept, 10, DULY_SUCCEEDED, 0, NULL, true).what == DULY_STEP_DOZE);
    duly_task_release(task);
    duly_task_release(over);
    OK(duly_pool_close(pool));
    CHECK(UNTIL(duly_worker_step(kept, 0, 0, 0, NULL, true).what == DULY_STEP_END));
    duly_worker_release(kept);
    end_pool(native);
    finish(pool);
}

static void p12_a_periodic_task_of_the_language_comes_back_once(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, 0, 1);
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_periodic *periodic = NULL;
    options.period_ns = 2 * MS;
    options.max_failures = 3;
    OK(duly_board_every(the_board, pool, &options, FAILS + 9, &periodic));
    CHECK(UNTIL(ended[FAILS + 9] == 1 && unrun[FAILS + 9] == 1));
    CHECK(elsewhere[FAILS + 9] == 3);
    int32_t end = 0;
    OK(duly_periodic_wait(periodic, 0, &end));
    CHECK(end == DULY_PERIODIC_FAILED);
    duly_periodic_release(periodic);
    options.period_ns = 0;
    CHECK_STATUS(duly_board_every(the_board, pool, &options, 1, &periodic), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_board_every(the_board, pool, NULL, 1, &periodic), DULY_STATUS_NULL_ARGUMENT);
    finish(pool);
    CHECK(unrun[1] == 0 && ended[FAILS + 9] == 1 && unrun[FAILS + 9] == 1);
}

static atomic_int starts, stops;

static void on_event(void *data, const duly_event *event) {
    (void)data;
    if (event->kind == DULY_EVENT_WORKER_START) atomic_fetch_add(&starts, 1);
    if (event->kind == DULY_EVENT_WORKER_STOP) atomic_fetch_add(&stops, 1);
}

static void p09_the_hook_of_a_boards_pool_is_told_in_pairs(void) {
    begin();
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.workers = 2;
    options.hook = on_event;
    OK(duly_board_pool(the_board, &options, 1, &pool));
    CHECK(UNTIL(atomic_load(&starts) == 2));
    finish(pool);
    CHECK(UNTIL(atomic_load(&stops) == 2));
}

static void p16_what_is_no_board_and_no_worker_is_refused(void) {
    begin();
    duly_pool *pool = board_pool(1, 0, 0, 1);
    duly_notice notice;
    duly_board *none = NULL;
    duly_task *task = NULL;
    duly_offer *offer = NULL;
    duly_watch *watch = NULL;
    size_t count = 0;
    CHECK_STATUS(duly_board_new(NULL, &none), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_board_new(run_elsewhere, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_take(the_board, 0, &notice, 0, &count), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_board_take(the_board, 0, NULL, 1, &count), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_take(NULL, 0, &notice, 1, &count), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_take((duly_board *)pool, 0, &notice, 1, &count), DULY_STATUS_FOREIGN_HANDLE);
    CHECK_STATUS(duly_board_tell(NULL, 1), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_submit(the_board, NULL, NULL, 1, false, &task), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_submit(the_board, pool, NULL, 1, false, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_offer(the_board, pool, NULL, 1, &task, NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_offer_again(NULL, &task), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_board_watch(the_board, NULL, 1, &watch), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_worker_arrive(NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_worker_depart(NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_worker_away(NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_worker_back(NULL), DULY_STATUS_NULL_ARGUMENT);
    CHECK(duly_worker_step(NULL, 0, 0, 0, NULL, true).what == DULY_STEP_END);
    duly_worker_release(NULL);
    duly_offer_release(offer);
    duly_watch_release(watch);
    /* What was never in hand decides nothing. */
    duly_pool *own = board_pool(1, 0, 0, 2);
    CHECK(UNTIL(atomic_load(&told) == 1));
    CHECK(duly_worker_step(kept, 5, DULY_SUCCEEDED, 0, NULL, false).decided == 0);
    OK(duly_pool_close(own));
    CHECK(UNTIL(duly_worker_step(kept, 0, 0, 0, NULL, false).what == DULY_STEP_END));
    duly_worker_release(kept);
    end_pool(own);
    finish(pool);
    for (int i = 0; i < 512; i++) CHECK(ran[i] + elsewhere[i] + unrun[i] == 0);
}

/* Keeps the lock of the board busy until it is told to stop. */
static atomic_bool enough;

static atomic_int sent;

static void *tells(void *data) {
    (void)data;
    while (!atomic_load(&enough)) {
        /* As fast as it is read: what waits to be read is the child's, too. */
        if (atomic_load(&sent) - atomic_load(&told) > 10000) {
            sched_yield();
            continue;
        }
        atomic_fetch_add(&sent, 1);
        OK(duly_board_tell(the_board, 1));
    }
    return NULL;
}

static int board_in_child(void) {
    duly_notice notice;
    duly_board *own = NULL;
    size_t count = 0;
    OK(duly_board_tell(the_board, 1));
    CHECK_STATUS(duly_board_take(the_board, DULY_FOREVER, &notice, 1, &count), DULY_STATUS_SHUT_DOWN);
    OK(duly_board_new(run_elsewhere, &own));
    OK(duly_board_tell(own, 3));
    OK(duly_board_take(own, DULY_FOREVER, &notice, 1, &count));
    CHECK(count == 1 && notice.tag == 3 && notice.kind == DULY_NOTICE_TOLD);
    fflush(stdout);
    return check_failed;
}

static void p11_a_boards_lock_is_not_taken_in_a_forked_child(void) {
    begin();
    pthread_t busy[3];
    atomic_store(&enough, false);
    atomic_store(&sent, atomic_load(&told));
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&busy[i], NULL, tells, NULL) == 0);
    CHECK(UNTIL(atomic_load(&told) > 0));
    fflush(stdout);
    for (int i = 0; i < 60 && !check_failed; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            alarm(10);
            _exit(board_in_child());
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < 3; i++) pthread_join(busy[i], NULL);
    OK(duly_board_tell(the_board, 999));
    pthread_join(reader, NULL);
}

MAIN(TEST(p01_callbacks_of_a_language_end_as_it_says),
     TEST(p15_callbacks_of_c_run_on_its_workers_and_its_own_on_those_of_c),
     TEST(p02_what_is_cancelled_in_the_queue_comes_back_unrun_and_whoever_watches_is_told),
     TEST(p04_an_offer_stands_in_line_without_a_thread), TEST(p08_a_worker_of_the_language_that_is_stuck_is_replaced),
     TEST(p10_a_wait_inside_a_callback_of_the_language_stalls_nothing),
     TEST(p05_a_worker_that_dozes_is_put_up_or_gathered),
     TEST(p04_who_is_woken_around_a_callback_that_is_told_is_not_gathered),
     TEST(p12_a_periodic_task_of_the_language_comes_back_once),
     TEST(p09_the_hook_of_a_boards_pool_is_told_in_pairs), TEST(p16_what_is_no_board_and_no_worker_is_refused),
     TEST(p11_a_boards_lock_is_not_taken_in_a_forked_child));
