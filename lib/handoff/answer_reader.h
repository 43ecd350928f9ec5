/* SPDX-License-Identifier: BSD-3-Clause */
/* Takes members out of a body. After the first one that is wrong nothing counts any more, so that
 * it is enough to ask once at the end. */
#ifndef NBDKIT_HANDOFF_ANSWER_READER_H
#define NBDKIT_HANDOFF_ANSWER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json_reader.h"

struct nh_answer {
  struct nh_json json;
  char* block; /* the result and all that it points to */
  size_t used;
  size_t room;
  const char* wrong; /* the member, or what it is about the whole; NULL: nothing so far */
};

/* The top object, and a block for a result of `size` bytes and the texts of the body. NULL when the
 * body is no object or there is no memory. To be followed by nh_answer_end() in any case. */
const struct nh_json_node* nh_answer_begin(struct nh_answer* answer, const char* body,
                                           size_t length, size_t size);
/* The block, or NULL and the last error. */
void* nh_answer_end(struct nh_answer* answer);

void nh_answer_wrong(struct nh_answer* answer, const char* what);

/* Zeroed memory of the block, aligned for anything. */
void* nh_answer_room(struct nh_answer* answer, size_t size);

uint64_t nh_answer_number(struct nh_answer* answer, const struct nh_json_node* of,
                          const char* member, uint64_t max);
bool nh_answer_bool(struct nh_answer* answer, const struct nh_json_node* of, const char* member);
/* In the block. A text with a NUL in it is wrong: nobody in C would see the rest. */
const char* nh_answer_text(struct nh_answer* answer, const struct nh_json_node* of,
                           const char* member);
/* As it stands in the body. */
const char* nh_answer_raw(struct nh_answer* answer, const struct nh_json_node* node);
/* The name's place in the list. */
int nh_answer_choice(struct nh_answer* answer, const struct nh_json_node* of, const char* member,
                     const char* const* names, size_t count);
/* Copies decoded bytes of the body. */
const char* nh_answer_copy(struct nh_answer* answer, const char* bytes, size_t length);

#endif
