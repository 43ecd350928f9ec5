/* SPDX-License-Identifier: BSD-3-Clause */
/* The verbs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SOCK_STREAM and the like in C99 */
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answers.h"
#include "deadline.h"
#include "handle.h"
#include "json_writer.h"
#include "packet.h"

/* Requests are large: not for the stack of somebody's thread. NULL and the last error. */
static struct nh_request* begin_request(struct nh_writer* writer, const char* verb) {
  struct nh_request* request = malloc(sizeof *request);
  if (request == NULL) {
    nh_fail_memory();
    return NULL;
  }
  request->descriptor = -1;
  nh_write_begin(writer, (char*)request->bytes + NBDKIT_HANDOFF_HEADER_SIZE,
                 NBDKIT_HANDOFF_BODY_MAX);
  nh_write_text(writer, "verb", verb);
  return request;
}

/* Ends the body, asks, and frees the request. 0, or -1 and the last error. */
static int ask(struct nbdkit_handoff* handle, struct nh_request* request, struct nh_writer* writer,
               bool wants_descriptor, int timeout_ms, struct nh_reply* reply) {
  int result;
  if (!nh_write_end(writer)) {
    result = nh_fail(NBDKIT_HANDOFF_E_INVALID, writer->bad_text
                                                   ? "the name of the export is no UTF-8"
                                                   : "the request is longer than a message may be");
  } else {
    request->body_length = writer->length;
    result = nh_exchange(handle, request, wants_descriptor, timeout_ms, reply);
  }
  free(request);
  return result;
}

static int check_name(const char* export_name) {
  if (export_name == NULL || strlen(export_name) <= NBDKIT_HANDOFF_EXPORT_MAX) return 0;
  return nh_fail(NBDKIT_HANDOFF_E_INVALID, "the name of an export has at most %d bytes",
                 NBDKIT_HANDOFF_EXPORT_MAX);
}

static int check_peer(enum nbdkit_handoff_peer peer) {
  if (peer == NBDKIT_HANDOFF_PEER_CLIENT || peer == NBDKIT_HANDOFF_PEER_KERNEL) return 0;
  return nh_fail(NBDKIT_HANDOFF_E_INVALID, "there is no peer %d", (int)peer);
}

static void write_export(struct nh_writer* writer, const char* export_name,
                         enum nbdkit_handoff_peer peer) {
  if (export_name != NULL && export_name[0] != '\0') {
    nh_write_text(writer, "export", export_name);
  }
  if (peer == NBDKIT_HANDOFF_PEER_KERNEL) nh_write_text(writer, "peer", "kernel");
}

struct nbdkit_handoff_export* nbdkit_handoff_query(struct nbdkit_handoff* handle,
                                                   const char* export_name,
                                                   enum nbdkit_handoff_peer peer, int timeout_ms) {
  struct nh_writer writer;
  struct nh_reply reply;
  if (check_name(export_name) != 0 || check_peer(peer) != 0) return NULL;
  struct nh_request* request = begin_request(&writer, "query");
  if (request == NULL) return NULL;
  write_export(&writer, export_name, peer);
  if (ask(handle, request, &writer, false, timeout_ms, &reply) != 0) return NULL;
  struct nbdkit_handoff_export* info = nh_read_export(reply.body, reply.body_length);
  free(reply.body);
  return info;
}

/* Options of a program that was compiled with another version of the header: what it does not know
 * is 0, and what this library does not know must be 0. */
static int copy_options(struct nbdkit_handoff_serve_options* to,
                        const struct nbdkit_handoff_serve_options* from) {
  static const struct nbdkit_handoff_serve_options kDefaults = NBDKIT_HANDOFF_SERVE_INIT;
  size_t i;
  *to = kDefaults;
  if (from == NULL) return 0;
  if (from->struct_size < sizeof *to) {
    return nh_fail(NBDKIT_HANDOFF_E_INVALID, "options begin with NBDKIT_HANDOFF_SERVE_INIT");
  }
  for (i = sizeof *to; i < from->struct_size; i++) {
    if (((const unsigned char*)from)[i] != 0) {
      return nh_fail(NBDKIT_HANDOFF_E_INVALID, "the library is too old for these options");
    }
  }
  memcpy(to, from, sizeof *to);
  return 0;
}

static int check_options(int socket, const struct nbdkit_handoff_serve_options* options) {
  if (options->mode != NBDKIT_HANDOFF_MODE_TRANSMISSION &&
      options->mode != NBDKIT_HANDOFF_MODE_HANDSHAKE) {
    return nh_fail(NBDKIT_HANDOFF_E_INVALID, "there is no mode %d", (int)options->mode);
  }
  if (check_name(options->export_name) != 0 || check_peer(options->peer) != 0) return -1;
  if (options->state != NULL && !nh_is_state(options->state)) {
    return nh_fail(NBDKIT_HANDOFF_E_INVALID, "the state is not what take-over has answered");
  }
  if (fcntl(socket, F_GETFD) < 0) {
    return nh_fail(NBDKIT_HANDOFF_E_BAD_DESCRIPTOR, "descriptor %d is not open", socket);
  }
  return 0;
}

static struct nh_request* serve_request(struct nh_writer* writer, int socket,
                                        const struct nbdkit_handoff_serve_options* options) {
  bool transmission = options->mode == NBDKIT_HANDOFF_MODE_TRANSMISSION;
  struct nh_request* request = begin_request(writer, "serve");
  if (request == NULL) return NULL;
  request->descriptor = socket;
  nh_write_text(writer, "mode", transmission ? "transmission" : "handshake");
  write_export(writer, options->export_name, options->peer);
  if (options->expect_size) nh_write_number(writer, "size", options->size);
  if (options->expect_flags) nh_write_number(writer, "flags", options->flags);
  if (options->state != NULL) nh_write_raw(writer, "state", options->state);
  if (options->insecure) nh_write_bool(writer, "insecure", true);
  return request;
}

struct nbdkit_handoff_served* nbdkit_handoff_serve(
    struct nbdkit_handoff* handle, int socket, const struct nbdkit_handoff_serve_options* options,
    int timeout_ms) {
  struct nbdkit_handoff_serve_options known;
  struct nh_writer writer;
  struct nh_reply reply;
  if (copy_options(&known, options) != 0 || check_options(socket, &known) != 0) return NULL;
  struct nh_request* request = serve_request(&writer, socket, &known);
  if (request == NULL) return NULL;
  if (ask(handle, request, &writer, false, timeout_ms, &reply) != 0) return NULL;
  struct nbdkit_handoff_served* served = nh_read_served(reply.body, reply.body_length, known.mode);
  free(reply.body);
  return served;
}

struct nbdkit_handoff_connections* nbdkit_handoff_list(struct nbdkit_handoff* handle,
                                                       uint64_t after, int timeout_ms) {
  struct nh_writer writer;
  struct nh_reply reply;
  struct nh_request* request = begin_request(&writer, "list");
  if (request == NULL) return NULL;
  if (after != 0) nh_write_number(&writer, "after", after);
  if (ask(handle, request, &writer, false, timeout_ms, &reply) != 0) return NULL;
  struct nbdkit_handoff_connections* connections =
      nh_read_connections(reply.body, reply.body_length, after);
  free(reply.body);
  return connections;
}

static int ask_for_nothing(struct nbdkit_handoff* handle, struct nh_request* request,
                           struct nh_writer* writer, int timeout_ms) {
  struct nh_reply reply;
  if (ask(handle, request, writer, false, timeout_ms, &reply) != 0) return -1;
  int result = nh_read_nothing(reply.body, reply.body_length);
  free(reply.body);
  return result;
}

int nbdkit_handoff_close(struct nbdkit_handoff* handle, uint64_t id, bool drain, int timeout_ms) {
  struct nh_writer writer;
  struct nh_request* request = begin_request(&writer, "close");
  if (request == NULL) return -1;
  nh_write_number(&writer, "id", id);
  if (!drain) nh_write_bool(&writer, "drain", false);
  return ask_for_nothing(handle, request, &writer, timeout_ms);
}

/* The server's answer that it took too long has to come before this end gives up. */
static uint64_t server_limit_ms(int timeout_ms) {
  uint64_t ms = (uint64_t)nh_timeout_ms(timeout_ms);
  uint64_t limit = ms - ms / 4;
  if (limit == 0) return 1;
  return limit < NBDKIT_HANDOFF_LIMIT_MS_MAX ? limit : NBDKIT_HANDOFF_LIMIT_MS_MAX;
}

static bool is_stream_socket(int fd) {
  int type = 0, listens = 0;
  socklen_t type_length = sizeof type, listens_length = sizeof listens;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 && type == SOCK_STREAM &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_length) == 0 && listens == 0;
}

static struct nbdkit_handoff_taken* take(struct nh_reply* reply, uint64_t id) {
  if (!is_stream_socket(reply->descriptor)) {
    nh_fail(NBDKIT_HANDOFF_E_PROTOCOL, "what the server gave back is no stream socket");
    return NULL;
  }
  struct nbdkit_handoff_taken* taken = nh_read_taken(reply->body, reply->body_length, id);
  if (taken == NULL) return NULL;
  taken->socket = reply->descriptor;
  reply->descriptor = -1;
  return taken;
}

struct nbdkit_handoff_taken* nbdkit_handoff_take_over(struct nbdkit_handoff* handle, uint64_t id,
                                                      int timeout_ms) {
  struct nh_writer writer;
  struct nh_reply reply;
  struct nh_request* request = begin_request(&writer, "take-over");
  if (request == NULL) return NULL;
  nh_write_number(&writer, "id", id);
  nh_write_number(&writer, "limit_ms", server_limit_ms(timeout_ms));
  if (ask(handle, request, &writer, true, timeout_ms, &reply) != 0) return NULL;
  struct nbdkit_handoff_taken* taken = take(&reply, id);
  if (reply.descriptor >= 0) nh_close_elsewhere(reply.descriptor);
  free(reply.body);
  return taken;
}

int nbdkit_handoff_subscribe(struct nbdkit_handoff* handle, int timeout_ms) {
  struct nh_writer writer;
  struct nh_request* request = begin_request(&writer, "subscribe");
  if (request == NULL) return -1;
  nh_keep_events(handle);
  return ask_for_nothing(handle, request, &writer, timeout_ms);
}

static struct nbdkit_handoff_event* missed_event(uint64_t count) {
  struct nbdkit_handoff_event* event = calloc(1, sizeof *event);
  if (event == NULL) {
    nh_fail_memory();
    return NULL;
  }
  event->kind = NBDKIT_HANDOFF_EVENT_MISSED;
  event->count = count;
  return event;
}

struct nbdkit_handoff_event* nbdkit_handoff_next_event(struct nbdkit_handoff* handle,
                                                       int timeout_ms) {
  struct timespec deadline = nh_deadline(timeout_ms);
  struct nh_reply reply;
  uint64_t missed;
  /* Events that this library does not know are for others. */
  for (;;) {
    bool known;
    if (nh_wait_event(handle, nh_left_ms(&deadline), &reply, &missed) != 0) return NULL;
    if (reply.body == NULL) return missed_event(missed);
    struct nbdkit_handoff_event* event = nh_read_event(reply.body, reply.body_length, &known);
    free(reply.body);
    if (event != NULL || known) return event;
  }
}

void nbdkit_handoff_export_free(struct nbdkit_handoff_export* info) { free(info); }
void nbdkit_handoff_served_free(struct nbdkit_handoff_served* served) { free(served); }
void nbdkit_handoff_connections_free(struct nbdkit_handoff_connections* connections) {
  free(connections);
}
void nbdkit_handoff_event_free(struct nbdkit_handoff_event* event) { free(event); }
void nbdkit_handoff_taken_free(struct nbdkit_handoff_taken* taken) {
  if (taken != NULL && taken->socket >= 0) close(taken->socket);
  free(taken);
}
