/* SPDX-License-Identifier: BSD-3-Clause */
/* The last error of a thread: code and one sentence. */
#ifndef NBDKIT_HANDOFF_LAST_ERROR_H
#define NBDKIT_HANDOFF_LAST_ERROR_H

#include <stddef.h>

#include "nbdkit-handoff.h"

#define NH_SENTENCE_MAX 1024 /* bytes, with its NUL */

/* Always -1. */
int nh_fail(enum nbdkit_handoff_code code, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
/* NBDKIT_HANDOFF_E_SYSTEM, "WHAT: why"; always -1. */
int nh_fail_system(const char* what, int error_number);
int nh_fail_memory(void);
/* "WHAT: why" */
void nh_describe(char* to, size_t room, const char* what, int error_number);

/* A sentence of a stranger, to be shown on a terminal: cut to what fits, without controls. */
void nh_clean_sentence(char* to, size_t room, const char* text, size_t length);

/* The code of this name; NBDKIT_HANDOFF_E_OTHER when there is none that a server says. */
enum nbdkit_handoff_code nh_code_of_name(const char* name, size_t length);

#endif
