/* SPDX-License-Identifier: BSD-3-Clause */
/* The bodies of answers, errors and events. Nothing of what a server says is believed before it has
 * been looked at: form, ranges, and whether it is an answer to what was asked.
 *
 * Functions that return a pointer return NULL when the body is no good; the last error is
 * NBDKIT_HANDOFF_E_PROTOCOL then. Every result is one block of memory, to be freed by free(). */
#ifndef NBDKIT_HANDOFF_ANSWERS_H
#define NBDKIT_HANDOFF_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "last_error.h"
#include "nbdkit-handoff.h"

struct nbdkit_handoff_export* nh_read_export(const char* body, size_t length);
struct nbdkit_handoff_served* nh_read_served(const char* body, size_t length,
                                             enum nbdkit_handoff_mode mode);
/* Of a list of those after `after`. */
struct nbdkit_handoff_connections* nh_read_connections(const char* body, size_t length,
                                                       uint64_t after);
/* Of connection `id`, without its socket. */
struct nbdkit_handoff_taken* nh_read_taken(const char* body, size_t length, uint64_t id);
/* `*known` is false for an event that this library does not know; that is no error. */
struct nbdkit_handoff_event* nh_read_event(const char* body, size_t length, bool* known);
/* The answer to close and subscribe: -1 when it is no object. */
int nh_read_nothing(const char* body, size_t length);

/* An error of the server. */
struct nh_refusal {
  enum nbdkit_handoff_code code;
  char sentence[NH_SENTENCE_MAX];
};
/* What it says; when it is none, that. */
void nh_read_refusal(const char* body, size_t length, struct nh_refusal* refusal);

/* Whether this is what take-over answers as `state`, in form. */
bool nh_is_state(const char* text);

#endif
