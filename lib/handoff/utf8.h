/* SPDX-License-Identifier: BSD-3-Clause */
/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef NBDKIT_HANDOFF_UTF8_H
#define NBDKIT_HANDOFF_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at the beginning of so many; 0: it is none. */
size_t nh_utf8_length(const char* text, size_t length);
/* Writes a code point that is a character; at most 4 bytes, their number. */
size_t nh_utf8_encode(uint32_t code, char* to);

#endif
