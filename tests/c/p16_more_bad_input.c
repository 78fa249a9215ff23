/* P16: bad input to tokens, queues, logs and hooks is an error, never undefined behaviour; so are options of other versions. */
#include <errno.h>
#include <sys/resource.h>

#include "check.h"

static void p16_null_tokens_and_queues(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_token *token = NULL, *made = NULL;
    duly_queue *queue = NULL;
    duly_queue_numbers numbers;
    int fd = -1;
    const duly_status none = DULY_STATUS_NULL_ARGUMENT;
    CHECK_STATUS(duly_token_new(NULL), none);
    CHECK_STATUS(duly_token_child(NULL, &made), none);
    CHECK_STATUS(duly_token_with_timeout(NULL, MS, NULL), none);
    CHECK_STATUS(duly_call_token(NULL, &made), none);
    OK(duly_token_new(&token));
    CHECK_STATUS(duly_token_child(token, NULL), none);
    CHECK(made == NULL);
    CHECK_STATUS(duly_token_cancel(NULL), none);
    CHECK_STATUS(duly_token_cancel_with(NULL, "x"), none);
    CHECK_STATUS(duly_token_cancel_with(token, NULL), none);
    CHECK(!duly_token_is_cancelled(NULL) && !duly_token_is_cancelled(token));
    CHECK_TEXT(duly_token_reason(NULL), "");
    CHECK(duly_token_time_left(NULL) == 0);
    CHECK_STATUS(duly_token_wait(NULL, 0), none);
    CHECK_STATUS(duly_token_fd(NULL, &fd), none);
    CHECK_STATUS(duly_token_fd(token, NULL), none);
    CHECK(fd == -1);
    CHECK(duly_token_retain(NULL) == NULL);
    duly_token_release(NULL);

    CHECK_STATUS(duly_pool_add_queue(NULL, NULL, &queue), none);
    CHECK_STATUS(duly_pool_add_queue(pool, NULL, NULL), none);
    CHECK_STATUS(duly_pool_default_queue(NULL, &queue), none);
    CHECK_STATUS(duly_pool_default_queue(pool, NULL), none);
    CHECK(queue == NULL);
    OK(duly_pool_add_queue(pool, NULL, &queue));
    CHECK_TEXT(duly_queue_name(queue), "");
    CHECK_TEXT(duly_queue_name(NULL), "");
    CHECK_STATUS(duly_queue_set_weight(NULL, 1), none);
    CHECK_STATUS(duly_queue_set_limit(NULL, 1), none);
    CHECK_STATUS(duly_queue_set_key_limit(NULL, 1), none);
    CHECK_STATUS(duly_queue_set_key_capacity(NULL, 1), none);
    CHECK_STATUS(duly_queue_set_capacity(NULL, 1), none);
    CHECK_STATUS(duly_queue_pause(NULL), none);
    CHECK_STATUS(duly_queue_resume(NULL), none);
    CHECK_STATUS(duly_queue_stats(NULL, &numbers, sizeof numbers), none);
    CHECK_STATUS(duly_queue_stats(queue, NULL, sizeof numbers), none);
    CHECK_STATUS(duly_queue_stats(queue, &numbers, 0), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_queue_stats(queue, &numbers, SIZE_MAX), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_queue_set_capacity(queue, 0), DULY_STATUS_INVALID_ARGUMENT);
    CHECK_STATUS(duly_queue_set_capacity(queue, UINT32_MAX), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(duly_queue_retain(NULL) == NULL);
    duly_queue_release(NULL);
    duly_queue_release(queue);

    CHECK_STATUS(duly_pool_set_workers(NULL, 1), none);
    CHECK_STATUS(duly_pool_pause(NULL), none);
    CHECK_STATUS(duly_pool_resume(NULL), none);
    CHECK(!duly_pool_is_closed(NULL) && !duly_pool_is_closed(pool));
    OK(duly_pool_close(pool));
    CHECK(duly_pool_is_closed(pool) && !duly_pool_is_inherited(pool));
    duly_token_release(token);
    end_pool(pool);
}

static void p16_foreign_tokens_and_queues(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_queue *queue = NULL;
    duly_token *token = NULL;
    duly_queue_numbers numbers;
    probe seen = {0};
    int fd;
    const duly_status foreign = DULY_STATUS_FOREIGN_HANDLE;
    uintptr_t memory[64] = {0x1234};
    OK(duly_pool_default_queue(pool, &queue));
    /* Memory of others, a part of a word, a handle of another type. */
    void *others[] = {memory, (char *)memory + 1, pool, queue};
    for (size_t i = 0; i < 4; i++) {
        void *other = others[i];
        CHECK_STATUS(duly_token_child(other, &token), foreign);
        CHECK_STATUS(duly_token_with_timeout(other, MS, &token), foreign);
        CHECK_STATUS(duly_token_cancel(other), foreign);
        CHECK_STATUS(duly_token_cancel_with(other, "x"), foreign);
        CHECK_STATUS(duly_token_wait(other, 0), foreign);
        CHECK_STATUS(duly_token_fd(other, &fd), foreign);
        CHECK_STATUS(duly_call_token(other, &token), foreign);
        CHECK(!duly_token_is_cancelled(other) && duly_token_time_left(other) == 0);
        CHECK_TEXT(duly_token_reason(other), "");
        CHECK(duly_token_retain(other) == NULL);
        duly_token_release(other);
        options.token = other;
        CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), foreign);
        options.token = NULL;
        if (other == queue)
            continue;
        CHECK_STATUS(duly_queue_set_limit(other, 1), foreign);
        CHECK_STATUS(duly_queue_pause(other), foreign);
        CHECK_STATUS(duly_queue_stats(other, &numbers, sizeof numbers), foreign);
        CHECK_TEXT(duly_queue_name(other), "");
        CHECK(duly_queue_retain(other) == NULL);
        duly_queue_release(other);
        options.queue = other;
        CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), foreign);
        options.queue = NULL;
    }
    CHECK(token == NULL && seen.ran == 0 && seen.dropped == 0);
    duly_queue_release(queue);
    end_pool(pool);
}

static void p16_options_of_submit_that_make_no_sense(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    probe seen = {0};
    options.key_size = 3;
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_NULL_ARGUMENT);
    options.key = "key";
    options.key_size = SIZE_MAX;
    CHECK_STATUS(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL), DULY_STATUS_INVALID_ARGUMENT);
    CHECK(seen.ran == 0 && seen.dropped == 0);
    options.key_size = 0;
    options.submitted_at = "\xff not UTF-8";
    OK(duly_submit(pool, &options, run_probe, &seen, drop_probe, NULL));
    end_pool(pool);
    CHECK(seen.ran == 1 && seen.dropped == 1);
}

static void p16_queue_options_of_another_version(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_queue_options options = DULY_QUEUE_OPTIONS_INIT, by_function;
    duly_periodic_options periodic = DULY_PERIODIC_OPTIONS_INIT, periodic_by_function;
    duly_queue *queue = NULL;
    const duly_status invalid = DULY_STATUS_INVALID_ARGUMENT;
    memset(&by_function, 0xff, sizeof by_function);
    memset(&periodic_by_function, 0xff, sizeof periodic_by_function);
    OK(duly_queue_options_init(&by_function, sizeof by_function));
    OK(duly_periodic_options_init(&periodic_by_function, sizeof periodic_by_function));
    CHECK(memcmp(&options, &by_function, sizeof options) == 0);
    CHECK(memcmp(&periodic, &periodic_by_function, sizeof periodic) == 0);
    CHECK_STATUS(duly_queue_options_init(&by_function, 47), invalid);
    CHECK_STATUS(duly_periodic_options_init(&periodic_by_function, SIZE_MAX), invalid);
    CHECK_STATUS(duly_queue_options_init(NULL, sizeof by_function), DULY_STATUS_NULL_ARGUMENT);
    CHECK_STATUS(duly_periodic_options_init(NULL, sizeof periodic), DULY_STATUS_NULL_ARGUMENT);
    options.size = 40;
    CHECK_STATUS(duly_pool_add_queue(pool, &options, &queue), invalid);
    options.size = sizeof options;
    options.flags = 1;
    CHECK_STATUS(duly_pool_add_queue(pool, &options, &queue), DULY_STATUS_UNSUPPORTED);
    options.flags = 0;
    options.reserved = 1;
    CHECK_STATUS(duly_pool_add_queue(pool, &options, &queue), DULY_STATUS_UNSUPPORTED);
    options.reserved = 0;
    options.overflow = 99;
    CHECK_STATUS(duly_pool_add_queue(pool, &options, &queue), invalid);
    options.overflow = 0;
    options.capacity = UINT32_MAX;
    CHECK_STATUS(duly_pool_add_queue(pool, &options, &queue), invalid);
    CHECK(queue == NULL);
    end_pool(pool);
}

/* A program that was compiled with the first version of the header. */
static void p16_a_program_of_the_first_version_runs(void) {
    struct {
        uint32_t size, flags;
        const char *label;
        uint64_t timeout_ns, submit_timeout_ns;
        uint64_t beyond[12];
    } old;
    struct {
        char known[72];
        uint64_t beyond[20];
    } old_pool;
    duly_pool_options pool_options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    duly_task *task = NULL;
    memset(&old, 0xff, sizeof old);
    old.size = 32;
    old.flags = 0;
    old.label = "old";
    old.timeout_ns = LONG;
    old.submit_timeout_ns = 0;
    memset(&old_pool, 0xff, sizeof old_pool);
    pool_options.size = 72;
    pool_options.workers = 1;
    memcpy(old_pool.known, &pool_options, 72);
    /* What is beyond its size is the program's own and is not read. */
    OK(duly_pool_new((const duly_pool_options *)(void *)&old_pool, &pool));
    OK(duly_submit(pool, (const duly_task_options *)(void *)&old, run_nothing, NULL, NULL, &task));
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    CHECK_TEXT(duly_task_label(task), "old");
    duly_task_release(task);
    end_pool(pool);
}

static void p16_no_descriptor_left_is_a_status(void) {
    struct rlimit limit, none;
    duly_token *token = NULL;
    int fd = -1;
    OK(duly_token_new(&token));
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_STATUS(duly_token_fd(token, &fd), DULY_STATUS_NO_DESCRIPTORS);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(fd == -1);
    OK(duly_token_fd(token, &fd));
    CHECK(fd >= 0);
    CHECK_TEXT(duly_status_name(DULY_STATUS_NO_DESCRIPTORS), "no_descriptors");
    duly_token_release(token);
}

/* References are counted, and the count has an end. */
static void p16_a_million_references_are_too_many(void) {
    duly_pool *pool = make_pool(1, 0, DULY_OVERFLOW_DEFAULT);
    duly_task *task = NULL, *next = NULL;
    size_t held = 1;
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, &task));
    while (held < 2000000 && duly_task_retain(task) == task)
        held++;
    CHECK(held > 900000 && held < 1100000);
    CHECK_OUTCOME(task, DULY_SUCCEEDED);
    for (size_t i = 0; i < held; i++)
        duly_task_release(task);
    OK(duly_submit(pool, NULL, run_nothing, NULL, NULL, &next));
    CHECK_OUTCOME(next, DULY_SUCCEEDED);
    duly_task_release(next);
    end_pool(pool);
}

MAIN(TEST(p16_null_tokens_and_queues), TEST(p16_foreign_tokens_and_queues), TEST(p16_options_of_submit_that_make_no_sense),
     TEST(p16_queue_options_of_another_version), TEST(p16_a_program_of_the_first_version_runs),
     TEST(p16_no_descriptor_left_is_a_status), TEST(p16_a_million_references_are_too_many));
