/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strerror_r() that returns the text */
#endif

#include "last_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

struct last_error {
  enum nbdkit_handoff_code code;
  char sentence[NH_SENTENCE_MAX];
};
static __thread struct last_error last_error;

static const struct {
  enum nbdkit_handoff_code code;
  const char* name;
} kCodes[] = {
    {NBDKIT_HANDOFF_OK, "ok"},
    {NBDKIT_HANDOFF_E_BAD_MESSAGE, "bad-message"},
    {NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION, "unsupported-version"},
    {NBDKIT_HANDOFF_E_UNKNOWN_VERB, "unknown-verb"},
    {NBDKIT_HANDOFF_E_UNKNOWN_KEY, "unknown-key"},
    {NBDKIT_HANDOFF_E_BAD_VALUE, "bad-value"},
    {NBDKIT_HANDOFF_E_NO_DESCRIPTOR, "no-descriptor"},
    {NBDKIT_HANDOFF_E_UNEXPECTED_DESCRIPTOR, "unexpected-descriptor"},
    {NBDKIT_HANDOFF_E_BAD_DESCRIPTOR, "bad-descriptor"},
    {NBDKIT_HANDOFF_E_FORBIDDEN, "forbidden"},
    {NBDKIT_HANDOFF_E_NO_SUCH_EXPORT, "no-such-export"},
    {NBDKIT_HANDOFF_E_NO_SUCH_CONNECTION, "no-such-connection"},
    {NBDKIT_HANDOFF_E_NOT_MOVABLE, "not-movable"},
    {NBDKIT_HANDOFF_E_MISMATCH, "mismatch"},
    {NBDKIT_HANDOFF_E_LIMIT, "limit"},
    {NBDKIT_HANDOFF_E_TIMEOUT, "timeout"},
    {NBDKIT_HANDOFF_E_FAILED, "failed"},
    {NBDKIT_HANDOFF_E_OTHER, "other"},
    {NBDKIT_HANDOFF_E_INVALID, "invalid"},
    {NBDKIT_HANDOFF_E_SYSTEM, "system"},
    {NBDKIT_HANDOFF_E_NO_ANSWER, "no-answer"},
    {NBDKIT_HANDOFF_E_DISCONNECTED, "disconnected"},
    {NBDKIT_HANDOFF_E_PROTOCOL, "protocol"},
};
enum { kCodeCount = sizeof kCodes / sizeof kCodes[0] };

int nh_fail(enum nbdkit_handoff_code code, const char* format, ...) {
  /* The arguments may be the last sentence itself. */
  char sentence[NH_SENTENCE_MAX];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  memcpy(last_error.sentence, sentence, sizeof sentence);
  last_error.code = code;
  return -1;
}

void nh_describe(char* to, size_t room, const char* what, int error_number) {
  char reason[256];
  snprintf(to, room, "%s: %s", what, strerror_r(error_number, reason, sizeof reason));
}

int nh_fail_system(const char* what, int error_number) {
  char sentence[NH_SENTENCE_MAX];
  nh_describe(sentence, sizeof sentence, what, error_number);
  return nh_fail(NBDKIT_HANDOFF_E_SYSTEM, "%s", sentence);
}

int nh_fail_memory(void) { return nh_fail(NBDKIT_HANDOFF_E_SYSTEM, "out of memory"); }

/* Controls of ASCII, and those of Latin-1, which terminals obey as well. */
static bool is_control(const char* character, size_t bytes) {
  unsigned char c = (unsigned char)character[0];
  if (bytes == 1) return c < ' ' || c == 0x7f;
  return bytes == 2 && c == 0xc2 && (unsigned char)character[1] < 0xa0;
}

void nh_clean_sentence(char* to, size_t room, const char* text, size_t length) {
  size_t used = 0;
  while (length > 0) {
    size_t bytes = nh_utf8_length(text, length);
    bool bad = bytes == 0 || is_control(text, bytes);
    if (bytes == 0) bytes = 1;
    size_t wanted = bad ? 1 : bytes;
    if (used + wanted + 1 > room) break;
    memcpy(to + used, bad ? "?" : text, wanted);
    used += wanted;
    text += bytes;
    length -= bytes;
  }
  to[used] = '\0';
}

enum nbdkit_handoff_code nh_code_of_name(const char* name, size_t length) {
  size_t i;
  for (i = 0; i < kCodeCount; i++) {
    bool said = kCodes[i].code > NBDKIT_HANDOFF_OK && kCodes[i].code < NBDKIT_HANDOFF_E_OTHER;
    if (said && strlen(kCodes[i].name) == length && memcmp(kCodes[i].name, name, length) == 0) {
      return kCodes[i].code;
    }
  }
  return NBDKIT_HANDOFF_E_OTHER;
}

enum nbdkit_handoff_code nbdkit_handoff_error_code(void) { return last_error.code; }

const char* nbdkit_handoff_error(void) { return last_error.sentence; }

const char* nbdkit_handoff_code_name(enum nbdkit_handoff_code code) {
  size_t i;
  for (i = 0; i < kCodeCount; i++) {
    if (kCodes[i].code == code) return kCodes[i].name;
  }
  return "unknown";
}
