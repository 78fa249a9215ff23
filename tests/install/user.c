/* What somebody writes who has duly installed: the smallest program that uses it. Prints "hello succeeded VERSION". */
#include <duly.h>
#include <stdio.h>

#ifdef WITH_OTHER_RUST
int32_t other_sum(int32_t upto);
#endif

static int32_t hello(void *user_data, duly_call *call) {
    (void)call;
    printf("%s ", (const char *)user_data);
    return 0;
}

int main(void) {
    duly_pool *pool = NULL;
    duly_task *task = NULL;
    duly_outcome outcome = DULY_ABANDONED;
    if (duly_version_number() != DULY_VERSION_NUMBER || duly_abi_version() != DULY_ABI_VERSION) {
        puts("the header is not the library's");
        return 1;
    }
#ifdef WITH_OTHER_RUST
    /* The other library's own runtime of Rust catches its own panics. */
    if (other_sum(3) != 6 || other_sum(-1) != -1)
        return 2;
#endif
    if (duly_pool_new(NULL, &pool) != DULY_STATUS_OK)
        return 3;
    if (duly_submit(pool, NULL, hello, (void *)"hello", NULL, &task) == DULY_STATUS_OK)
        duly_task_wait(task, 20 * DULY_SECOND, &outcome);
    printf("%s %s\n", duly_outcome_name(outcome), duly_version_string());
    duly_task_release(task);
    duly_pool_shutdown(pool, 20 * DULY_SECOND, NULL);
    duly_pool_release(pool);
    return outcome == DULY_SUCCEEDED ? 0 : 4;
}
