/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads one JSON text (RFC 8259) that comes from a stranger. Never recursive. */
#ifndef NBDKIT_HANDOFF_JSON_READER_H
#define NBDKIT_HANDOFF_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum nh_json_kind {
  NH_JSON_NULL,
  NH_JSON_FALSE,
  NH_JSON_TRUE,
  NH_JSON_NUMBER,
  NH_JSON_TEXT,
  NH_JSON_ARRAY,
  NH_JSON_OBJECT
};

/* A value. The first item of an array or object is the node after it. */
struct nh_json_node {
  enum nh_json_kind kind;
  uint32_t begin; /* where it stands in the source, and where that ends */
  uint32_t end;
  uint32_t name; /* of a member of an object, decoded; a place in `texts` */
  uint32_t name_length;
  uint32_t text; /* of a text, decoded; a place in `texts` */
  uint32_t text_length;
  uint32_t count; /* of items or members */
  uint32_t next;  /* the next item of what this is an item of; 0: none */
};

struct nh_json {
  const char* source;         /* the reader's caller keeps it */
  struct nh_json_node* nodes; /* the first one is the whole */
  size_t node_count;
  size_t node_room;
  char* texts;
  size_t texts_used;
};

/* NULL, or what is wrong. One value of at most NBDKIT_HANDOFF_BODY_MAX bytes and nothing behind
 * it; the limits are those of docs/handoff-protocol.md. To be freed in both cases. */
const char* nh_json_read(struct nh_json* json, const char* source, size_t length);
void nh_json_free(struct nh_json* json);

/* Null pointers are allowed for `node`, so that look-ups can be chained. */
const struct nh_json_node* nh_json_find(const struct nh_json* json, const struct nh_json_node* node,
                                        const char* name);
const struct nh_json_node* nh_json_first(const struct nh_json* json,
                                         const struct nh_json_node* node);
const struct nh_json_node* nh_json_next(const struct nh_json* json,
                                        const struct nh_json_node* node);
/* A whole number, written without fraction and exponent, of at most `max`. */
bool nh_json_number(const struct nh_json* json, const struct nh_json_node* node, uint64_t max,
                    uint64_t* value);
/* Only the whole and exact text counts. */
bool nh_json_is_text(const struct nh_json* json, const struct nh_json_node* node, const char* text);

#endif
