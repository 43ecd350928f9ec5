/* SPDX-License-Identifier: BSD-3-Clause */
/* The handle: one control socket that several threads talk on.
 *
 * Requests are numbered, and wait in a list for their answers. Of the threads that wait, one at a
 * time polls the socket, without the lock; it sends what waits to be sent, gives every answer to
 * the request of its number, and leaves the socket to another one when its own wait is over. */
#ifndef NBDKIT_HANDOFF_HANDLE_H
#define NBDKIT_HANDOFF_HANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers.h"
#include "handoff_wire.h"
#include "nbdkit-handoff.h"

/* A packet with room for its header. */
struct nh_request {
  unsigned char bytes[NBDKIT_HANDOFF_MESSAGE_MAX];
  size_t body_length;
  int descriptor; /* that goes with it, or -1 */
};

struct nh_reply {
  char* body; /* to be freed */
  size_t body_length;
  int descriptor; /* -1: none came */
};

/* Takes a connected control socket over; NULL and the last error, and the socket is the caller's.
 */
struct nbdkit_handoff* nh_open_handle(int socket);

/* Sends, and waits for the answer. -1 and the last error: there is none, or the server refuses. A
 * descriptor comes only when it is wanted. */
int nh_exchange(struct nbdkit_handoff* handle, struct nh_request* request, bool wants_descriptor,
                int timeout_ms, struct nh_reply* reply);

/* From now on events are kept. */
void nh_keep_events(struct nbdkit_handoff* handle);

/* The body of the next event; or an empty one, and how many are missing in this place. -1 and the
 * last error: there is none in time, or there will be none any more. */
int nh_wait_event(struct nbdkit_handoff* handle, int timeout_ms, struct nh_reply* event,
                  uint64_t* missed);

#endif
