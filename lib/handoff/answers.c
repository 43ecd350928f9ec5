/* SPDX-License-Identifier: BSD-3-Clause */
#include "answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer_reader.h"
#include "handoff_wire.h"

/* In the order of the numbers in nbdkit-handoff.h; those that begin with 1 have "" for 0. */
static const char* const kPeers[] = {"client", "kernel"};
static const char* const kModes[] = {"", "transmission", "handshake"};
static const char* const kPhases[] = {"", "handshake", "transmission", "ending"};
static const char* const kSurvives[] = {"nothing", "flushed", "durable"};
static const char* const kEvents[] = {"", "began", "ended", "missed", "stopping"};
static const char* const kReasons[] = {"", "disconnected", "closed", "failed", "stopped", "moved"};

/* "" is in some lists only so that numbers fit: as a value it is as wrong as any other. */
#define CHOICE(answer, of, member, names) \
  choice(answer, of, member, names, sizeof names / sizeof names[0])

static int choice(struct nh_answer* answer, const struct nh_json_node* of, const char* member,
                  const char* const* names, size_t count) {
  int chosen = nh_answer_choice(answer, of, member, names, count);
  if (names[chosen][0] == '\0') nh_answer_wrong(answer, member);
  return chosen;
}

static bool is_power_of_2(uint32_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* NBD_INFO_BLOCK_SIZE; all 0 is allowed: there is no preference. */
static bool block_size_is_valid(uint32_t minimum, uint32_t preferred, uint32_t maximum) {
  if (minimum == 0 && preferred == 0 && maximum == 0) return true;
  return is_power_of_2(minimum) && minimum <= 64 * 1024 && is_power_of_2(preferred) &&
         preferred >= 512 && preferred <= 32 * 1024 * 1024 && minimum <= preferred &&
         preferred <= maximum && (maximum == UINT32_MAX || maximum % minimum == 0);
}

static void take_block_size(struct nh_answer* answer, const struct nh_json_node* sizes,
                            uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
  *minimum = (uint32_t)nh_answer_number(answer, sizes, "minimum", UINT32_MAX);
  *preferred = (uint32_t)nh_answer_number(answer, sizes, "preferred", UINT32_MAX);
  *maximum = (uint32_t)nh_answer_number(answer, sizes, "maximum", UINT32_MAX);
  if (!block_size_is_valid(*minimum, *preferred, *maximum)) nh_answer_wrong(answer, "block_size");
}

static void take_export(struct nh_answer* answer, const struct nh_json_node* body,
                        struct nbdkit_handoff_export* info) {
  const struct nh_json_node* sizes = nh_json_find(&answer->json, body, "block_size");
  info->size = nh_answer_number(answer, body, "size", INT64_MAX);
  info->transmission_flags =
      (uint16_t)nh_answer_number(answer, body, "transmission_flags", UINT16_MAX);
  if ((info->transmission_flags & 1) == 0) nh_answer_wrong(answer, "transmission_flags");
  take_block_size(answer, sizes, &info->block_size_minimum, &info->block_size_preferred,
                  &info->block_size_maximum);
  info->maximum_payload = (uint32_t)nh_answer_number(answer, body, "maximum_payload", UINT32_MAX);
  info->multi_conn = nh_answer_bool(answer, body, "multi_conn");
  info->shared_open = nh_answer_bool(answer, body, "shared_open");
  info->swap_fit = nh_answer_bool(answer, body, "swap_fit");
  info->survives = (enum nbdkit_handoff_survives)CHOICE(answer, body, "survives", kSurvives);
  info->identity = nh_answer_text(answer, body, "identity");
  info->description = nh_answer_text(answer, body, "description");
}

struct nbdkit_handoff_export* nh_read_export(const char* body, size_t length) {
  struct nh_answer answer;
  size_t size = sizeof(struct nbdkit_handoff_export);
  const struct nh_json_node* top = nh_answer_begin(&answer, body, length, size);
  if (top != NULL) take_export(&answer, top, nh_answer_room(&answer, size));
  return nh_answer_end(&answer);
}

struct served_block {
  struct nbdkit_handoff_served served;
  struct nbdkit_handoff_export info;
};

struct nbdkit_handoff_served* nh_read_served(const char* body, size_t length,
                                             enum nbdkit_handoff_mode mode) {
  struct nh_answer answer;
  const struct nh_json_node* top =
      nh_answer_begin(&answer, body, length, sizeof(struct served_block));
  if (top != NULL) {
    struct served_block* block = nh_answer_room(&answer, sizeof *block);
    block->served.id = nh_answer_number(&answer, top, "id", UINT64_MAX);
    if (mode == NBDKIT_HANDOFF_MODE_TRANSMISSION) {
      take_export(&answer, top, &block->info);
      block->served.info = &block->info;
    }
  }
  return nh_answer_end(&answer);
}

static void take_connection(struct nh_answer* answer, const struct nh_json_node* from,
                            struct nbdkit_handoff_connection* connection) {
  const struct nh_json_node* user = nh_json_find(&answer->json, from, "user");
  connection->id = nh_answer_number(answer, from, "id", UINT64_MAX);
  if (user == NULL || user->kind != NH_JSON_NULL) {
    connection->user = (uint32_t)nh_answer_number(answer, from, "user", UINT32_MAX);
    connection->has_user = true;
  }
  connection->mode = (enum nbdkit_handoff_mode)CHOICE(answer, from, "mode", kModes);
  connection->phase = (enum nbdkit_handoff_phase)CHOICE(answer, from, "phase", kPhases);
  connection->peer = (enum nbdkit_handoff_peer)CHOICE(answer, from, "peer", kPeers);
  connection->export_name = nh_answer_text(answer, from, "export");
}

struct connections_block {
  struct nbdkit_handoff_connections list;
  const struct nbdkit_handoff_connection* pointers[NBDKIT_HANDOFF_LIST_MAX];
  struct nbdkit_handoff_connection items[NBDKIT_HANDOFF_LIST_MAX];
};

static void take_connections(struct nh_answer* answer, const struct nh_json_node* body,
                             uint64_t after, struct connections_block* block) {
  const struct nh_json_node* array = nh_json_find(&answer->json, body, "connections");
  if (array == NULL || array->kind != NH_JSON_ARRAY || array->count > NBDKIT_HANDOFF_LIST_MAX) {
    nh_answer_wrong(answer, "connections");
    return;
  }
  const struct nh_json_node* node = nh_json_first(&answer->json, array);
  size_t count = 0;
  for (; node != NULL; node = nh_json_next(&answer->json, node)) {
    struct nbdkit_handoff_connection* connection = &block->items[count];
    take_connection(answer, node, connection);
    /* Otherwise somebody who asks for what follows would never come to an end. */
    if (connection->id <= after) nh_answer_wrong(answer, "the order of the connections");
    after = connection->id;
    block->pointers[count++] = connection;
  }
  block->list.count = count;
  block->list.items = block->pointers;
  block->list.more = nh_answer_bool(answer, body, "more");
  if (block->list.more && count == 0) nh_answer_wrong(answer, "more");
}

struct nbdkit_handoff_connections* nh_read_connections(const char* body, size_t length,
                                                       uint64_t after) {
  struct nh_answer answer;
  size_t size = sizeof(struct connections_block);
  const struct nh_json_node* top = nh_answer_begin(&answer, body, length, size);
  if (top != NULL) take_connections(&answer, top, after, nh_answer_room(&answer, size));
  return nh_answer_end(&answer);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* Bytes, or -1 when it is no hexadecimal text of at most so many. */
static int read_hex(const char* digits, unsigned char* to, size_t max) {
  size_t i, count = strlen(digits);
  if (count % 2 != 0 || count / 2 > max) return -1;
  for (i = 0; i < count; i += 2) {
    int high = hex_digit(digits[i]);
    int low = hex_digit(digits[i + 1]);
    if (high < 0 || low < 0) return -1;
    to[i / 2] = (unsigned char)(high << 4 | low);
  }
  return (int)(count / 2);
}

struct taken_block {
  struct nbdkit_handoff_taken taken;
  unsigned char unread[NBDKIT_HANDOFF_UNREAD_MAX];
  struct nbdkit_handoff_context contexts[NBDKIT_HANDOFF_MEMBERS_MAX];
};

static void take_contexts(struct nh_answer* answer, const struct nh_json_node* state,
                          struct taken_block* block) {
  const struct nh_json_node* contexts = nh_json_find(&answer->json, state, "contexts");
  if (contexts == NULL || contexts->kind != NH_JSON_OBJECT) {
    nh_answer_wrong(answer, "state.contexts");
    return;
  }
  const struct nh_json_node* node = nh_json_first(&answer->json, contexts);
  size_t count = 0;
  for (; node != NULL; node = nh_json_next(&answer->json, node)) {
    struct nbdkit_handoff_context* context = &block->contexts[count++];
    const char* name = answer->json.texts + node->name;
    uint64_t id = 0;
    if (!nh_json_number(&answer->json, node, UINT32_MAX, &id) ||
        memchr(name, '\0', node->name_length) != NULL) {
      nh_answer_wrong(answer, "state.contexts");
    }
    context->name = nh_answer_copy(answer, name, node->name_length);
    context->id = (uint32_t)id;
  }
  block->taken.context_count = count;
  block->taken.contexts = block->contexts;
}

static void take_state(struct nh_answer* answer, const struct nh_json_node* state,
                       struct taken_block* block) {
  if (state == NULL || state->kind != NH_JSON_OBJECT) {
    nh_answer_wrong(answer, "state");
    return;
  }
  block->taken.structured_replies = nh_answer_bool(answer, state, "structured_replies");
  block->taken.extended_headers = nh_answer_bool(answer, state, "extended_headers");
  take_contexts(answer, state, block);
  /* A server that knows nothing of it says nothing. */
  const struct nh_json_node* sizes = nh_json_find(&answer->json, state, "block_size");
  if (sizes != NULL) {
    take_block_size(answer, sizes, &block->taken.block_size_minimum,
                    &block->taken.block_size_preferred, &block->taken.block_size_maximum);
  }
  const char* digits = nh_answer_text(answer, state, "unread");
  int unread = read_hex(digits, block->unread, sizeof block->unread);
  if (unread < 0) nh_answer_wrong(answer, "state.unread");
  block->taken.unread_length = unread > 0 ? (size_t)unread : 0;
  block->taken.unread = block->unread;
}

struct nbdkit_handoff_taken* nh_read_taken(const char* body, size_t length, uint64_t id) {
  struct nh_answer answer;
  /* The state is copied twice: as it is, and what it says. */
  size_t size = sizeof(struct taken_block) + length;
  const struct nh_json_node* top = nh_answer_begin(&answer, body, length, size);
  if (top != NULL) {
    struct taken_block* block = nh_answer_room(&answer, sizeof *block);
    struct nbdkit_handoff_taken* taken = &block->taken;
    const struct nh_json_node* state = nh_json_find(&answer.json, top, "state");
    taken->socket = -1;
    taken->id = nh_answer_number(&answer, top, "id", UINT64_MAX);
    if (taken->id != id) nh_answer_wrong(&answer, "id");
    taken->peer = (enum nbdkit_handoff_peer)CHOICE(&answer, top, "peer", kPeers);
    taken->size = nh_answer_number(&answer, top, "size", INT64_MAX);
    taken->flags = (uint16_t)nh_answer_number(&answer, top, "flags", UINT16_MAX);
    taken->export_name = nh_answer_text(&answer, top, "export");
    take_state(&answer, state, block);
    taken->state = state != NULL ? nh_answer_raw(&answer, state) : "";
  }
  return nh_answer_end(&answer);
}

struct event_block {
  struct nbdkit_handoff_event event;
  struct nbdkit_handoff_connection connection;
};

static void take_event(struct nh_answer* answer, const struct nh_json_node* body,
                       struct event_block* block) {
  struct nbdkit_handoff_event* event = &block->event;
  switch (event->kind) {
    case NBDKIT_HANDOFF_EVENT_BEGAN:
      take_connection(answer, body, &block->connection);
      event->connection = &block->connection;
      event->id = block->connection.id;
      break;
    case NBDKIT_HANDOFF_EVENT_ENDED:
      event->id = nh_answer_number(answer, body, "id", UINT64_MAX);
      event->reason = (enum nbdkit_handoff_reason)CHOICE(answer, body, "reason", kReasons);
      break;
    case NBDKIT_HANDOFF_EVENT_MISSED:
      event->count = nh_answer_number(answer, body, "count", UINT64_MAX);
      break;
    case NBDKIT_HANDOFF_EVENT_STOPPING:
      break;
  }
}

struct nbdkit_handoff_event* nh_read_event(const char* body, size_t length, bool* known) {
  struct nh_answer answer;
  const struct nh_json_node* top =
      nh_answer_begin(&answer, body, length, sizeof(struct event_block));
  *known = true;
  if (top != NULL) {
    struct event_block* block = nh_answer_room(&answer, sizeof *block);
    const struct nh_json_node* name = nh_json_find(&answer.json, top, "event");
    size_t i, found = 0;
    for (i = 1; i < sizeof kEvents / sizeof kEvents[0]; i++) {
      if (nh_json_is_text(&answer.json, name, kEvents[i])) found = i;
    }
    block->event.kind = (enum nbdkit_handoff_event_kind)found;
    *known = found != 0 || name == NULL || name->kind != NH_JSON_TEXT;
    if (found == 0) nh_answer_wrong(&answer, "event");
    if (found != 0) take_event(&answer, top, block);
  }
  return nh_answer_end(&answer);
}

int nh_read_nothing(const char* body, size_t length) {
  struct nh_answer answer;
  nh_answer_begin(&answer, body, length, 1);
  void* block = nh_answer_end(&answer);
  free(block);
  return block != NULL ? 0 : -1;
}

void nh_read_refusal(const char* body, size_t length, struct nh_refusal* refusal) {
  struct nh_json json;
  const char* wrong = nh_json_read(&json, body, length);
  const struct nh_json_node* top = wrong == NULL ? &json.nodes[0] : NULL;
  const struct nh_json_node* code = nh_json_find(&json, top, "code");
  const struct nh_json_node* text = nh_json_find(&json, top, "message");
  if (code == NULL || code->kind != NH_JSON_TEXT || text == NULL || text->kind != NH_JSON_TEXT) {
    refusal->code = NBDKIT_HANDOFF_E_PROTOCOL;
    snprintf(refusal->sentence, sizeof refusal->sentence, "the server's error is not understood");
  } else {
    refusal->code = nh_code_of_name(json.texts + code->text, code->text_length);
    nh_clean_sentence(refusal->sentence, sizeof refusal->sentence, json.texts + text->text,
                      text->text_length);
  }
  nh_json_free(&json);
}

bool nh_is_state(const char* text) {
  struct nh_json json;
  bool is = nh_json_read(&json, text, strlen(text)) == NULL && json.nodes[0].kind == NH_JSON_OBJECT;
  nh_json_free(&json);
  return is;
}
