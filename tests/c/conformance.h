/* The conformance table as C data: what tests/c/conformance_table.py writes and tests/c/conformance/ runs. */
#ifndef DULY_TESTS_CONFORMANCE_H
#define DULY_TESTS_CONFORMANCE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { TEXT, NUMBER, FLAG, LIST } field_type;

/* A field of a step; `number` is also a flag, and the length of a list. */
typedef struct {
    const char *key;
    field_type type;
    const char *text;
    long long number;
    const char *const *list;
} field;

typedef struct {
    const field *fields;
    size_t count;
} step;

typedef struct {
    const char *name;
    /* Why the language cannot run it yet; NULL if it can. */
    const char *skipped;
    const step *steps;
    size_t count;
    /* How many of the first steps are the set-up. */
    size_t set_up;
    /* In the wrong cases: the step that must fail, from 1. */
    size_t fails_at;
} conformance_case;

extern const conformance_case conformance_cases[];
extern const size_t conformance_cases_count;
extern const conformance_case conformance_wrong[];
extern const size_t conformance_wrong_count;

#ifdef __cplusplus
}
#endif

#endif
