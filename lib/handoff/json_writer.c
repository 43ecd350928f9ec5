/* SPDX-License-Identifier: BSD-3-Clause */
#include "json_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

static void put(struct nh_writer* writer, const char* bytes, size_t count) {
  if (count > writer->room - writer->length) {
    writer->too_long = true;
    return;
  }
  memcpy(writer->to + writer->length, bytes, count);
  writer->length += count;
}

static void put_name(struct nh_writer* writer, const char* name) {
  put(writer, writer->length > 1 ? ",\"" : "\"", writer->length > 1 ? 2 : 1);
  put(writer, name, strlen(name));
  put(writer, "\":", 2);
}

static void put_character(struct nh_writer* writer, const char* text, size_t bytes) {
  unsigned char c = (unsigned char)text[0];
  char escape[8];
  if (c == '"' || c == '\\') put(writer, "\\", 1);
  if (c >= ' ') {
    put(writer, text, bytes);
    return;
  }
  snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
  put(writer, escape, 6);
}

void nh_write_begin(struct nh_writer* writer, char* to, size_t room) {
  memset(writer, 0, sizeof *writer);
  writer->to = to;
  writer->room = room;
  put(writer, "{", 1);
}

void nh_write_text(struct nh_writer* writer, const char* name, const char* text) {
  size_t left = strlen(text);
  put_name(writer, name);
  put(writer, "\"", 1);
  while (left > 0 && !writer->too_long) {
    size_t bytes = nh_utf8_length(text, left);
    if (bytes == 0) {
      writer->bad_text = true;
      return;
    }
    put_character(writer, text, bytes);
    text += bytes;
    left -= bytes;
  }
  put(writer, "\"", 1);
}

void nh_write_number(struct nh_writer* writer, const char* name, uint64_t number) {
  char digits[24];
  int count = snprintf(digits, sizeof digits, "%" PRIu64, number);
  put_name(writer, name);
  put(writer, digits, (size_t)count);
}

void nh_write_bool(struct nh_writer* writer, const char* name, bool is) {
  nh_write_raw(writer, name, is ? "true" : "false");
}

void nh_write_raw(struct nh_writer* writer, const char* name, const char* json) {
  put_name(writer, name);
  put(writer, json, strlen(json));
}

bool nh_write_end(struct nh_writer* writer) {
  put(writer, "}", 1);
  return !writer->too_long && !writer->bad_text;
}
