/* SPDX-License-Identifier: BSD-3-Clause */
#include "json_reader.h"

#include <stdlib.h>
#include <string.h>

#include "handoff_wire.h"
#include "utf8.h"

static const char kNoJson[] = "not JSON";
static const char kNoMemory[] = "more than there is memory for";
static const char kTooDeep[] = "nested too deeply";
static const char kTwice[] = "not JSON: a member is there twice";
static const char kTooMany[] = "not acceptable: too many members in an object";
static const char kNoText[] = "not JSON: a text is no UTF-8, or has a bad escape";

/* An array or object that is not closed yet. */
struct level {
  uint32_t node;
  uint32_t last; /* its last item so far; 0: none */
};

struct reader {
  struct nh_json* json;
  const char* source;
  size_t length;
  size_t at;
  struct level levels[NBDKIT_HANDOFF_DEPTH_MAX];
  size_t depth;
  const char* wrong;
};

static bool fail(struct reader* reader, const char* wrong) {
  reader->wrong = wrong;
  return false;
}

/* The next byte; a NUL, which no JSON has outside of texts, at the end. */
static char peek(const struct reader* reader) {
  return reader->at < reader->length ? reader->source[reader->at] : '\0';
}

static bool accept(struct reader* reader, char c) {
  if (peek(reader) != c) return false;
  reader->at++;
  return true;
}

static void skip_blanks(struct reader* reader) {
  for (;;) {
    char c = peek(reader);
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
    reader->at++;
  }
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool read_hex4(struct reader* reader, uint32_t* value) {
  int i;
  *value = 0;
  for (i = 0; i < 4; i++) {
    int digit = hex_digit(peek(reader));
    if (digit < 0) return false;
    *value = *value << 4 | (uint32_t)digit;
    reader->at++;
  }
  return true;
}

/* What follows \u: one half of a surrogate pair without the other is no character. */
static bool read_code_point(struct reader* reader, uint32_t* code) {
  uint32_t low;
  if (!read_hex4(reader, code)) return false;
  if (*code < 0xd800 || *code > 0xdfff) return true;
  if (*code > 0xdbff || !accept(reader, '\\') || !accept(reader, 'u')) return false;
  if (!read_hex4(reader, &low) || low < 0xdc00 || low > 0xdfff) return false;
  *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
  return true;
}

static bool read_escape(struct reader* reader) {
  static const char kEscapes[] = "\"\\/bfnrt";
  static const char kMeanings[] = "\"\\/\b\f\n\r\t";
  char* to = reader->json->texts + reader->json->texts_used;
  char c = peek(reader);
  const char* found = c != '\0' ? strchr(kEscapes, c) : NULL;
  if (found != NULL) {
    reader->at++;
    *to = kMeanings[found - kEscapes];
    reader->json->texts_used++;
    return true;
  }
  uint32_t code;
  if (!accept(reader, 'u') || !read_code_point(reader, &code)) return false;
  reader->json->texts_used += nh_utf8_encode(code, to);
  return true;
}

/* Decoded, a text is never longer than it was: `texts` has room for all of the source. */
static bool read_text(struct reader* reader, uint32_t* place, uint32_t* length) {
  struct nh_json* json = reader->json;
  *place = (uint32_t)json->texts_used;
  reader->at++; /* the quotation mark */
  for (;;) {
    if (reader->at >= reader->length) return fail(reader, kNoJson);
    const char* c = reader->source + reader->at;
    if (*c == '"') break;
    if (*c == '\\') {
      reader->at++;
      if (!read_escape(reader)) return fail(reader, kNoText);
      continue;
    }
    size_t bytes = nh_utf8_length(c, reader->length - reader->at);
    if (bytes == 0 || (unsigned char)*c < ' ') return fail(reader, kNoText);
    memcpy(json->texts + json->texts_used, c, bytes);
    json->texts_used += bytes;
    reader->at += bytes;
  }
  reader->at++;
  *length = (uint32_t)json->texts_used - *place;
  return true;
}

static bool skip_digits(struct reader* reader) {
  size_t begin = reader->at;
  while (peek(reader) >= '0' && peek(reader) <= '9') reader->at++;
  return reader->at > begin;
}

static bool read_number(struct reader* reader) {
  accept(reader, '-');
  if (!accept(reader, '0') && !skip_digits(reader)) return fail(reader, kNoJson);
  if (accept(reader, '.') && !skip_digits(reader)) return fail(reader, kNoJson);
  if (accept(reader, 'e') || accept(reader, 'E')) {
    if (!accept(reader, '+')) accept(reader, '-');
    if (!skip_digits(reader)) return fail(reader, kNoJson);
  }
  return true;
}

static bool read_word(struct reader* reader, const char* word) {
  size_t length = strlen(word);
  if (reader->length - reader->at < length) return fail(reader, kNoJson);
  if (memcmp(reader->source + reader->at, word, length) != 0) return fail(reader, kNoJson);
  reader->at += length;
  return true;
}

static struct nh_json_node* add_node(struct reader* reader) {
  struct nh_json* json = reader->json;
  if (json->node_count == json->node_room) {
    size_t room = json->node_room > 0 ? 2 * json->node_room : 32;
    struct nh_json_node* nodes = realloc(json->nodes, room * sizeof *nodes);
    if (nodes == NULL) return NULL;
    json->nodes = nodes;
    json->node_room = room;
  }
  struct nh_json_node* node = &json->nodes[json->node_count++];
  memset(node, 0, sizeof *node);
  return node;
}

/* Makes the node that was added last an item of what is open. */
static bool link_node(struct reader* reader) {
  struct nh_json* json = reader->json;
  if (reader->depth == 0) return true;
  struct level* level = &reader->levels[reader->depth - 1];
  struct nh_json_node* parent = &json->nodes[level->node];
  struct nh_json_node* node = &json->nodes[json->node_count - 1];
  parent->count++;
  if (level->last != 0) json->nodes[level->last].next = (uint32_t)(json->node_count - 1);
  level->last = (uint32_t)(json->node_count - 1);
  if (parent->kind != NH_JSON_OBJECT) return true;

  if (parent->count > NBDKIT_HANDOFF_MEMBERS_MAX) return fail(reader, kTooMany);
  const struct nh_json_node* other = parent + 1;
  for (; other != node; other = &json->nodes[other->next]) {
    if (other->name_length == node->name_length &&
        memcmp(json->texts + other->name, json->texts + node->name, node->name_length) == 0) {
      return fail(reader, kTwice);
    }
  }
  return true;
}

static bool open_level(struct reader* reader, struct nh_json_node* node, enum nh_json_kind kind) {
  if (reader->depth == NBDKIT_HANDOFF_DEPTH_MAX) return fail(reader, kTooDeep);
  node->kind = kind;
  reader->at++;
  reader->levels[reader->depth].node = (uint32_t)(node - reader->json->nodes);
  reader->levels[reader->depth].last = 0;
  reader->depth++;
  return true;
}

static bool read_kind(struct reader* reader, struct nh_json_node* node) {
  switch (peek(reader)) {
    case '{':
      return open_level(reader, node, NH_JSON_OBJECT);
    case '[':
      return open_level(reader, node, NH_JSON_ARRAY);
    case '"':
      node->kind = NH_JSON_TEXT;
      return read_text(reader, &node->text, &node->text_length);
    case 't':
      node->kind = NH_JSON_TRUE;
      return read_word(reader, "true");
    case 'f':
      node->kind = NH_JSON_FALSE;
      return read_word(reader, "false");
    case 'n':
      node->kind = NH_JSON_NULL;
      return read_word(reader, "null");
    default:
      node->kind = NH_JSON_NUMBER;
      return read_number(reader);
  }
}

static bool in_object(const struct reader* reader) {
  return reader->depth > 0 &&
         reader->json->nodes[reader->levels[reader->depth - 1].node].kind == NH_JSON_OBJECT;
}

/* A value with its name if it has one; of an array or object only the beginning. */
static bool read_value(struct reader* reader) {
  struct nh_json_node* node = add_node(reader);
  if (node == NULL) return fail(reader, kNoMemory);
  skip_blanks(reader);
  if (in_object(reader)) {
    if (peek(reader) != '"') return fail(reader, kNoJson);
    if (!read_text(reader, &node->name, &node->name_length)) return false;
    skip_blanks(reader);
    if (!accept(reader, ':')) return fail(reader, kNoJson);
    skip_blanks(reader);
  }
  if (!link_node(reader)) return false;
  node->begin = (uint32_t)reader->at;
  if (!read_kind(reader, node)) return false;
  node->end = (uint32_t)reader->at;
  return true;
}

/* Closes what ends here. True when another value has to follow. */
static bool wants_more(struct reader* reader) {
  while (reader->depth > 0) {
    struct level* level = &reader->levels[reader->depth - 1];
    struct nh_json_node* open = &reader->json->nodes[level->node];
    skip_blanks(reader);
    if (accept(reader, open->kind == NH_JSON_OBJECT ? '}' : ']')) {
      open->end = (uint32_t)reader->at;
      reader->depth--;
      continue;
    }
    if (level->last == 0 || accept(reader, ',')) return true;
    return fail(reader, kNoJson);
  }
  return false;
}

const char* nh_json_read(struct nh_json* json, const char* source, size_t length) {
  struct reader reader;
  memset(json, 0, sizeof *json);
  memset(&reader, 0, sizeof reader);
  reader.json = json;
  reader.source = json->source = source;
  reader.length = length;
  if (length == 0 || length > NBDKIT_HANDOFF_BODY_MAX) return kNoJson;
  json->texts = malloc(length);
  if (json->texts == NULL) return kNoMemory;
  do {
    if (!read_value(&reader)) return reader.wrong;
  } while (wants_more(&reader));
  skip_blanks(&reader);
  if (reader.wrong == NULL && reader.at != length) reader.wrong = kNoJson;
  return reader.wrong;
}

void nh_json_free(struct nh_json* json) {
  free(json->nodes);
  free(json->texts);
  memset(json, 0, sizeof *json);
}

const struct nh_json_node* nh_json_first(const struct nh_json* json,
                                         const struct nh_json_node* node) {
  (void)json;
  return node != NULL && node->count > 0 ? node + 1 : NULL;
}

const struct nh_json_node* nh_json_next(const struct nh_json* json,
                                        const struct nh_json_node* node) {
  return node->next != 0 ? &json->nodes[node->next] : NULL;
}

const struct nh_json_node* nh_json_find(const struct nh_json* json, const struct nh_json_node* node,
                                        const char* name) {
  size_t length = strlen(name);
  if (node == NULL || node->kind != NH_JSON_OBJECT) return NULL;
  const struct nh_json_node* member = nh_json_first(json, node);
  for (; member != NULL; member = nh_json_next(json, member)) {
    if (member->name_length == length && memcmp(json->texts + member->name, name, length) == 0) {
      return member;
    }
  }
  return NULL;
}

bool nh_json_number(const struct nh_json* json, const struct nh_json_node* node, uint64_t max,
                    uint64_t* value) {
  uint64_t number = 0;
  uint32_t i;
  if (node == NULL || node->kind != NH_JSON_NUMBER) return false;
  for (i = node->begin; i < node->end; i++) {
    if (json->source[i] < '0' || json->source[i] > '9') return false;
    uint64_t digit = (uint64_t)(json->source[i] - '0');
    if (digit > max || number > (max - digit) / 10) return false;
    number = number * 10 + digit;
  }
  *value = number;
  return true;
}

bool nh_json_is_text(const struct nh_json* json, const struct nh_json_node* node,
                     const char* text) {
  size_t length = strlen(text);
  return node != NULL && node->kind == NH_JSON_TEXT && node->text_length == length &&
         memcmp(json->texts + node->text, text, length) == 0;
}
