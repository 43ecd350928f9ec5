/* SPDX-License-Identifier: BSD-3-Clause */
/* One packet of the control socket: sent, received, and checked as far as its header goes. */
#ifndef NBDKIT_HANDOFF_PACKET_H
#define NBDKIT_HANDOFF_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#include "handoff_wire.h"

enum nh_moved {
  NH_MOVED,
  NH_LATER, /* the socket is full, or nothing is in it */
  NH_GONE,  /* there is no other end any more */
  NH_FAILED /* errno says why */
};

/* What has been received. */
struct nh_packet {
  struct nbdkit_handoff_header header;
  char* body; /* in the caller's buffer */
  size_t body_length;
  int descriptor;      /* -1: none; close-on-exec */
  bool lost;           /* a descriptor that this process had no room for */
  const char* problem; /* NULL, or how it breaks the protocol; then it has no descriptor */
};

/* Sends header and body in one go, never raises SIGPIPE, never waits. */
enum nh_moved nh_send(int socket, const unsigned char* bytes, size_t length, int descriptor);

/* Never waits. `buffer` has room for NBDKIT_HANDOFF_MESSAGE_MAX bytes. */
enum nh_moved nh_receive(int socket, unsigned char* buffer, struct nh_packet* packet);

/* The last close of somebody else's descriptor may wait for as long as somebody else likes, so a
 * thread does it that nobody waits for. Without one the descriptor stays open. */
void nh_close_elsewhere(int descriptor);

#endif
