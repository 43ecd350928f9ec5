/* SPDX-License-Identifier: BSD-3-Clause */
#include "answer_reader.h"

#include <stdlib.h>
#include <string.h>

#include "last_error.h"

enum { kAlign = 16 };

static size_t aligned(size_t size) { return (size + kAlign - 1) / kAlign * kAlign; }

const struct nh_json_node* nh_answer_begin(struct nh_answer* answer, const char* body,
                                           size_t length, size_t size) {
  memset(answer, 0, sizeof *answer);
  const char* wrong = nh_json_read(&answer->json, body, length);
  if (wrong != NULL) {
    nh_answer_wrong(answer, wrong);
    return NULL;
  }
  if (answer->json.nodes[0].kind != NH_JSON_OBJECT) {
    nh_answer_wrong(answer, "no JSON object");
    return NULL;
  }
  /* Each text is copied once, with a NUL in the place of its quotation marks. */
  answer->room = aligned(size) + length + kAlign;
  answer->block = calloc(1, answer->room);
  if (answer->block == NULL) {
    nh_answer_wrong(answer, "more than there is memory for");
    return NULL;
  }
  return &answer->json.nodes[0];
}

void* nh_answer_end(struct nh_answer* answer) {
  void* block = answer->block;
  nh_json_free(&answer->json);
  if (answer->wrong != NULL) {
    free(block);
    nh_fail(NBDKIT_HANDOFF_E_PROTOCOL, "the server's message is not understood: %s", answer->wrong);
    return NULL;
  }
  return block;
}

void nh_answer_wrong(struct nh_answer* answer, const char* what) {
  if (answer->wrong == NULL) answer->wrong = what;
}

static void* take_room(struct nh_answer* answer, size_t size) {
  if (size > answer->room - answer->used) {
    nh_answer_wrong(answer, "longer than it can be");
    return NULL;
  }
  void* room = answer->block + answer->used;
  answer->used += size;
  return room;
}

void* nh_answer_room(struct nh_answer* answer, size_t size) {
  return take_room(answer, aligned(size));
}

const char* nh_answer_copy(struct nh_answer* answer, const char* bytes, size_t length) {
  char* copy = take_room(answer, length + 1);
  if (copy == NULL) return "";
  memcpy(copy, bytes, length);
  return copy;
}

uint64_t nh_answer_number(struct nh_answer* answer, const struct nh_json_node* of,
                          const char* member, uint64_t max) {
  uint64_t value = 0;
  if (!nh_json_number(&answer->json, nh_json_find(&answer->json, of, member), max, &value)) {
    nh_answer_wrong(answer, member);
  }
  return value;
}

bool nh_answer_bool(struct nh_answer* answer, const struct nh_json_node* of, const char* member) {
  const struct nh_json_node* node = nh_json_find(&answer->json, of, member);
  if (node == NULL || (node->kind != NH_JSON_TRUE && node->kind != NH_JSON_FALSE)) {
    nh_answer_wrong(answer, member);
    return false;
  }
  return node->kind == NH_JSON_TRUE;
}

const char* nh_answer_text(struct nh_answer* answer, const struct nh_json_node* of,
                           const char* member) {
  const struct nh_json_node* node = nh_json_find(&answer->json, of, member);
  if (node == NULL || node->kind != NH_JSON_TEXT ||
      memchr(answer->json.texts + node->text, '\0', node->text_length) != NULL) {
    nh_answer_wrong(answer, member);
    return "";
  }
  return nh_answer_copy(answer, answer->json.texts + node->text, node->text_length);
}

const char* nh_answer_raw(struct nh_answer* answer, const struct nh_json_node* node) {
  return nh_answer_copy(answer, answer->json.source + node->begin, node->end - node->begin);
}

int nh_answer_choice(struct nh_answer* answer, const struct nh_json_node* of, const char* member,
                     const char* const* names, size_t count) {
  const struct nh_json_node* node = nh_json_find(&answer->json, of, member);
  size_t i;
  for (i = 0; i < count; i++) {
    if (nh_json_is_text(&answer->json, node, names[i])) return (int)i;
  }
  nh_answer_wrong(answer, member);
  return 0;
}
