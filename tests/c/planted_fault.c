/* Uses memory after free, on a worker. Not a test: ci/test-c runs it to show that AddressSanitizer is on and sees it.
 * With an argument it uses the memory before. */
#include <stdio.h>
#include <stdlib.h>

#include "duly.h"

static int32_t run_read(void *data, duly_call *call) {
    (void)call;
    return *(volatile int *)data;
}

int main(int argc, char **argv) {
    (void)argv;
    duly_pool *pool = NULL;
    duly_task *task = NULL;
    /* volatile: so that the compiler does not see the fault before the sanitizer does. */
    void *volatile data = malloc(sizeof(int));
    if (argc == 1)
        free(data);
    if (duly_pool_new(NULL, &pool) == DULY_STATUS_OK &&
        duly_submit(pool, NULL, run_read, data, NULL, &task) == DULY_STATUS_OK)
        duly_task_wait(task, 20 * DULY_SECOND, NULL);
    duly_task_release(task);
    duly_pool_shutdown(pool, 20 * DULY_SECOND, NULL);
    duly_pool_release(pool);
    if (argc == 1)
        puts("the planted fault was not seen");
    else
        free(data);
    return 0;
}
