/* The header alone, twice in one program, in two files: this one and header_alone.c. Every macro has a line here. */
#include "duly.h"
#include "duly.h"

#include <stdio.h>
#include <string.h>

int header_alone(void);

/* Each version of an option struct ends without padding; the sizes of the first version never change. */
#define FIELD_ENDS(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))
#ifndef __cplusplus
_Static_assert(sizeof(duly_pool_options) >= 72 && sizeof(duly_task_options) >= 32 && sizeof(duly_stats) >= 144, "shrunk");
_Static_assert(FIELD_ENDS(duly_pool_options, stack_size) == sizeof(duly_pool_options), "padding");
_Static_assert(FIELD_ENDS(duly_task_options, submit_timeout_ns) == sizeof(duly_task_options), "padding");
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
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", DULY_VERSION_MAJOR, DULY_VERSION_MINOR, DULY_VERSION_PATCH);
    check(DULY_VERSION_NUMBER == duly_version_number() && strcmp(text, duly_version_string()) == 0,
          "p16_header_and_library_are_of_one_version");
    check(DULY_ABI_VERSION == duly_abi_version(), "p16_header_and_library_have_one_abi");
    check(pool_options.size == sizeof pool_options && task_options.size == sizeof task_options,
          "p16_the_init_macros_say_their_size");
    check(DULY_FOREVER == UINT64_MAX && DULY_NONE == UINT32_MAX && DULY_MILLISECOND * 1000 == DULY_SECOND &&
              DULY_SECOND == 1000000000u && DULY_TASK_DETACHED == 1,
          "p16_the_constants_are_what_they_say");
    check(header_alone() == 0, "p16_the_header_stands_alone_and_in_two_files");
    return failed;
}
