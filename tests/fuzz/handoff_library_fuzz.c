/* SPDX-License-Identifier: BSD-3-Clause */
/* What libnbdkit-handoff makes of a server that says anything. The first byte of the input chooses
 * the call (its last three bits), and whether the messages have headers of their own (8: proper
 * ones are made). Messages follow, each ended by the byte 0x1e. Where headers are made the first
 * byte of a message is A for an answer, S for one with a socket, R for an error, E for an event. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answers.h"
#include "handoff_wire.h"
#include "json_reader.h"
#include "nbdkit-handoff.h"

enum { kMessageEnd = 0x1e, kMakeHeader = 8, kCalls = 7, kFlagsAt = 11 };

static void check(int holds) {
  if (!holds) abort();
}

static void check_text(const char* text) {
  check(text != NULL);
  check(strlen(text) <= NBDKIT_HANDOFF_BODY_MAX);
}

static void check_export(const struct nbdkit_handoff_export* info) {
  check(info->size <= INT64_MAX && (info->transmission_flags & 1) == 1);
  check_text(info->identity);
  check_text(info->description);
}

static void check_connection(const struct nbdkit_handoff_connection* connection) {
  check(connection->mode == NBDKIT_HANDOFF_MODE_TRANSMISSION ||
        connection->mode == NBDKIT_HANDOFF_MODE_HANDSHAKE);
  check(connection->phase >= NBDKIT_HANDOFF_PHASE_HANDSHAKE &&
        connection->phase <= NBDKIT_HANDOFF_PHASE_ENDING);
  check_text(connection->export_name);
}

/* Sends one message as a server might; what the kernel does not take is left out. */
static void say(int fd, const unsigned char* bytes, size_t length, int make_header, int socket) {
  unsigned char packet[NBDKIT_HANDOFF_MESSAGE_MAX];
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec piece;
  struct msghdr message;
  int with_socket = length > kFlagsAt && (bytes[kFlagsAt] & 1) != 0;
  size_t begin = 0;
  if (make_header) {
    struct nbdkit_handoff_header header = {
        NBDKIT_HANDOFF_MAGIC, NBDKIT_HANDOFF_VERSION, NBDKIT_HANDOFF_ANSWER, 0, 0, 1};
    if (length == 0) return;
    with_socket = bytes[0] == 'S';
    if (bytes[0] == 'R') header.kind = NBDKIT_HANDOFF_ERROR;
    if (bytes[0] == 'E') header.kind = NBDKIT_HANDOFF_EVENT;
    if (bytes[0] == 'E') header.sequence = 0;
    header.flags = with_socket ? NBDKIT_HANDOFF_FLAG_DESCRIPTOR : 0;
    bytes++;
    length--;
    header.length = (uint32_t)length;
    nbdkit_handoff_encode(packet, &header);
    begin = NBDKIT_HANDOFF_HEADER_SIZE;
  }
  if (length > sizeof packet - begin) return;
  memcpy(packet + begin, bytes, length);
  memset(&message, 0, sizeof message);
  memset(&control, 0, sizeof control);
  piece.iov_base = packet;
  piece.iov_len = begin + length;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (with_socket) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &socket, sizeof socket);
  }
  (void)!sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_all(int fd, const unsigned char* bytes, size_t length, int make_header,
                    int socket) {
  while (length > 0) {
    const unsigned char* end = memchr(bytes, kMessageEnd, length);
    size_t here = end != NULL ? (size_t)(end - bytes) : length;
    say(fd, bytes, here, make_header, socket);
    here += end != NULL;
    bytes += here;
    length -= here;
  }
}

static void ask_for_export(struct nbdkit_handoff* handle) {
  struct nbdkit_handoff_export* info =
      nbdkit_handoff_query(handle, "a", NBDKIT_HANDOFF_PEER_KERNEL, 0);
  if (info != NULL) check_export(info);
  nbdkit_handoff_export_free(info);
}

static void give(struct nbdkit_handoff* handle, int socket, enum nbdkit_handoff_mode mode) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  options.mode = mode;
  struct nbdkit_handoff_served* served = nbdkit_handoff_serve(handle, socket, &options, 0);
  if (served != NULL && served->info != NULL) check_export(served->info);
  check(served == NULL || (served->info == NULL) == (mode == NBDKIT_HANDOFF_MODE_HANDSHAKE));
  nbdkit_handoff_served_free(served);
}

static void list(struct nbdkit_handoff* handle) {
  struct nbdkit_handoff_connections* connections = nbdkit_handoff_list(handle, 3, 0);
  uint64_t after = 3;
  size_t i;
  for (i = 0; connections != NULL && i < connections->count; i++) {
    check_connection(connections->items[i]);
    check(connections->items[i]->id > after);
    after = connections->items[i]->id;
  }
  nbdkit_handoff_connections_free(connections);
}

static void take_over(struct nbdkit_handoff* handle) {
  struct nbdkit_handoff_taken* taken = nbdkit_handoff_take_over(handle, 5, 0);
  if (taken != NULL) {
    size_t i;
    check(taken->socket >= 0 && taken->id == 5);
    check_text(taken->export_name);
    check_text(taken->state);
    check(nh_is_state(taken->state));
    check(taken->unread_length <= NBDKIT_HANDOFF_UNREAD_MAX);
    for (i = 0; i < taken->context_count; i++) check_text(taken->contexts[i].name);
  }
  nbdkit_handoff_taken_free(taken);
}

static void listen_to_events(struct nbdkit_handoff* handle) {
  struct nbdkit_handoff_event* event;
  int i;
  (void)nbdkit_handoff_subscribe(handle, 0);
  for (i = 0; i < 4; i++) {
    event = nbdkit_handoff_next_event(handle, 0);
    if (event != NULL && event->connection != NULL) check_connection(event->connection);
    nbdkit_handoff_event_free(event);
  }
}

static void call(unsigned which, struct nbdkit_handoff* handle, int socket) {
  switch (which % kCalls) {
    case 0:
      ask_for_export(handle);
      break;
    case 1:
      give(handle, socket, NBDKIT_HANDOFF_MODE_TRANSMISSION);
      break;
    case 2:
      give(handle, socket, NBDKIT_HANDOFF_MODE_HANDSHAKE);
      break;
    case 3:
      list(handle);
      break;
    case 4:
      (void)nbdkit_handoff_close(handle, 5, true, 0);
      break;
    case 5:
      take_over(handle);
      break;
    default:
      listen_to_events(handle);
      break;
  }
  check_text(nbdkit_handoff_error());
}

/* Every node is inside of what it was read from. */
static void check_json(const unsigned char* bytes, size_t length) {
  struct nh_json json;
  char* text = malloc(length + 1);
  size_t i;
  check(text != NULL);
  memcpy(text, bytes, length);
  if (nh_json_read(&json, text, length) == NULL) {
    for (i = 0; i < json.node_count; i++) {
      const struct nh_json_node* node = &json.nodes[i];
      check(node->begin < node->end && node->end <= length);
      check(node->name + node->name_length <= json.texts_used);
      check(node->text + node->text_length <= json.texts_used);
      check(node->next == 0 || (node->next > i && node->next < json.node_count));
      check(i + node->count < json.node_count);
    }
    check(json.texts_used <= length);
  }
  nh_json_free(&json);
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  int control[2], client[2];
  if (size == 0) return 0;
  check_json(data + 1, size - 1);
  check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) == 0);
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client) == 0);
  struct nbdkit_handoff* handle = nbdkit_handoff_adopt(control[0]);
  check(handle != NULL);
  say_all(control[1], data + 1, size - 1, data[0] & kMakeHeader, client[0]);
  call(data[0] & 7, handle, client[0]);
  call(data[0] & 7, handle, client[0]);
  close(control[1]);
  call(data[0] & 7, handle, client[0]);
  nbdkit_handoff_free(handle);
  close(client[0]);
  close(client[1]);
  return 0;
}
