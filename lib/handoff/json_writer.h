/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes the body of a request: one JSON object, into memory that is there already. */
#ifndef NBDKIT_HANDOFF_JSON_WRITER_H
#define NBDKIT_HANDOFF_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nh_writer {
  char* to;
  size_t room;
  size_t length;
  bool too_long;
  bool bad_text; /* something was no UTF-8 */
};

/* Names and literals are the program's own and need no escapes. */
void nh_write_begin(struct nh_writer* writer, char* to, size_t room);
void nh_write_text(struct nh_writer* writer, const char* name, const char* text);
void nh_write_number(struct nh_writer* writer, const char* name, uint64_t number);
void nh_write_bool(struct nh_writer* writer, const char* name, bool is);
/* A value that is JSON already. */
void nh_write_raw(struct nh_writer* writer, const char* name, const char* json);
/* False when it did not fit or a text was none; `length` is the whole. */
bool nh_write_end(struct nh_writer* writer);

#endif
