/* SPDX-License-Identifier: BSD-3-Clause */
/* The header of every handoff message, as bytes (docs/handoff-protocol.md). C99, libc only. */
#ifndef NBDKIT_HANDOFF_WIRE_H
#define NBDKIT_HANDOFF_WIRE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A message is one packet of an AF_UNIX SOCK_SEQPACKET socket: this header, a body of JSON, and at
 * most one descriptor (SCM_RIGHTS). All numbers are in network byte order.
 *
 *   offset size
 *        0    4  magic
 *        4    2  version
 *        6    2  kind
 *        8    4  flags
 *       12    4  length of the body in bytes
 *       16    8  sequence: the requester's choice; the answer has the same
 *       24       body
 */
#define NBDKIT_HANDOFF_MAGIC UINT32_C(0x4e424448) /* "NBDH" */
#define NBDKIT_HANDOFF_VERSION 1

#define NBDKIT_HANDOFF_HEADER_SIZE 24
#define NBDKIT_HANDOFF_MESSAGE_MAX 65536 /* header and body, in bytes */
#define NBDKIT_HANDOFF_BODY_MAX (NBDKIT_HANDOFF_MESSAGE_MAX - NBDKIT_HANDOFF_HEADER_SIZE)
#define NBDKIT_HANDOFF_DEPTH_MAX 32     /* objects and arrays inside each other */
#define NBDKIT_HANDOFF_MEMBERS_MAX 1024 /* of one object */
#define NBDKIT_HANDOFF_EXPORT_MAX 4096  /* bytes of an export's name */
#define NBDKIT_HANDOFF_LIST_MAX 128     /* connections in one answer */
#define NBDKIT_HANDOFF_UNREAD_MAX 31    /* bytes in `state.unread`: less than a request's header */
#define NBDKIT_HANDOFF_LIMIT_MS_MAX 60000

enum nbdkit_handoff_kind {
  NBDKIT_HANDOFF_REQUEST = 1,
  NBDKIT_HANDOFF_ANSWER = 2,
  NBDKIT_HANDOFF_ERROR = 3,
  NBDKIT_HANDOFF_EVENT = 4
};

/* One descriptor comes with this message. Without the flag there is none. */
#define NBDKIT_HANDOFF_FLAG_DESCRIPTOR UINT32_C(1)
#define NBDKIT_HANDOFF_FLAGS_KNOWN NBDKIT_HANDOFF_FLAG_DESCRIPTOR

struct nbdkit_handoff_header {
  uint32_t magic;
  uint16_t version;
  uint16_t kind;
  uint32_t flags;
  uint32_t length;
  uint64_t sequence;
};

static inline void nbdkit_handoff_put(unsigned char* to, uint64_t value, unsigned size) {
  while (size > 0) {
    to[--size] = (unsigned char)(value & 0xff);
    value >>= 8;
  }
}

static inline uint64_t nbdkit_handoff_get(const unsigned char* from, unsigned size) {
  uint64_t value = 0;
  unsigned i;
  for (i = 0; i < size; i++) value = value << 8 | from[i];
  return value;
}

static inline void nbdkit_handoff_encode(unsigned char to[NBDKIT_HANDOFF_HEADER_SIZE],
                                         const struct nbdkit_handoff_header* header) {
  nbdkit_handoff_put(to, header->magic, 4);
  nbdkit_handoff_put(to + 4, header->version, 2);
  nbdkit_handoff_put(to + 6, header->kind, 2);
  nbdkit_handoff_put(to + 8, header->flags, 4);
  nbdkit_handoff_put(to + 12, header->length, 4);
  nbdkit_handoff_put(to + 16, header->sequence, 8);
}

/* Checks nothing. */
static inline void nbdkit_handoff_decode(const unsigned char from[NBDKIT_HANDOFF_HEADER_SIZE],
                                         struct nbdkit_handoff_header* header) {
  header->magic = (uint32_t)nbdkit_handoff_get(from, 4);
  header->version = (uint16_t)nbdkit_handoff_get(from + 4, 2);
  header->kind = (uint16_t)nbdkit_handoff_get(from + 6, 2);
  header->flags = (uint32_t)nbdkit_handoff_get(from + 8, 4);
  header->length = (uint32_t)nbdkit_handoff_get(from + 12, 4);
  header->sequence = nbdkit_handoff_get(from + 16, 8);
}

#ifdef __cplusplus
}
#endif

#endif
