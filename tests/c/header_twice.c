/* The header alone, twice in one program, in two files: this one and header_alone.c. Every macro has a line here. */
#include "duly.h"
#include "duly.h"

#include <stdio.h>
#include <string.h>

int header_alone(void);

/* The sizes of the first version never change; tests/abi/layout.py looks at every field. */
#ifndef __cplusplus
_Static_assert(sizeof(duly_pool_options) >= 72 && sizeof(duly_task_options) >= 32 && sizeof(duly_stats) >= 144, "shrunk");
_Static_assert(sizeof(duly_queue_options) >= 48 && sizeof(duly_periodic_options) >= 40, "shrunk");
_Static_assert(sizeof(duly_queue_numbers) >= 40 && sizeof(duly_periodic_numbers) >= 32, "shrunk");
_Static_assert(sizeof(duly_status) == 4 && sizeof(duly_outcome) == 4, "the enums are 32 bits wide");
_Static_assert(offsetof(duly_pool_options, name) == 8 && offsetof(duly_pool_options, replace_after_ns) == 40, "moved");
_Static_assert(offsetof(duly_task_options, label) == 8 && offsetof(duly_task_options, timeout_ns) == 16, "moved");
#endif

static int failed;
static void check(int held, const char *what) {
    printf("%s %s\n", held ? "ok" : "FAILED", what);
    failed |= !held;
}

int main(void) {
    duly_pool_options pool_options = DULY_POOL_OPTIONS_INIT;
    duly_task_options task_options = DULY_TASK_OPTIONS_INIT;
    duly_queue_options queue_options = DULY_QUEUE_OPTIONS_INIT;
    duly_periodic_options periodic_options = DULY_PERIODIC_OPTIONS_INIT;
    char text[32], here[80];
    snprintf(text, sizeof text, "%d.%d.%d", DULY_VERSION_MAJOR, DULY_VERSION_MINOR, DULY_VERSION_PATCH);
    check(DULY_VERSION_NUMBER == duly_version_number() && strcmp(text, duly_version_string()) == 0,
          "p16_header_and_library_are_of_one_version");
    check(DULY_ABI_VERSION == duly_abi_version(), "p16_header_and_library_have_one_abi");
    check(pool_options.size == sizeof pool_options && task_options.size == sizeof task_options &&
              queue_options.size == sizeof queue_options && periodic_options.size == sizeof periodic_options,
          "p16_the_init_macros_say_their_size");
    snprintf(here, sizeof here, "%s:%d", __FILE__, __LINE__ + 1);
    check(strcmp(DULY_HERE, here) == 0, "p16_here_is_file_and_line");
    check(DULY_FOREVER == UINT64_MAX && DULY_NONE == UINT32_MAX && DULY_MILLISECOND * 1000 == DULY_SECOND &&
              DULY_SECOND == 1000000000u && DULY_TASK_DETACHED == 1 && DULY_PERIODIC_CATCH_UP == 1 &&
              DULY_PERIODIC_OVERLAP == 2,
          "p16_the_constants_are_what_they_say");
    check(header_alone() == 0, "p16_the_header_stands_alone_and_in_two_files");
    return failed;
}
