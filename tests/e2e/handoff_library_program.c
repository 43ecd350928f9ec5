/* SPDX-License-Identifier: BSD-3-Clause */
/* Every function of libnbdkit-handoff against real servers, in C99 that is C++ as well.
 *   handoff_library_program NBDKIT SOCKET OTHER-SOCKET
 * The sockets are those of two servers with memory of 1M, the first of which begins with "hello".
 */
#define _POSIX_C_SOURCE 200809L
#include <nbdkit-handoff.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kThreads = 4, kCalls = 100, kHeaderCut = 11 };

static void check(bool holds, const char* claim, int line) {
  if (holds) return;
  fprintf(stderr, "line %d: not true: %s\nlast error: %s: %s\n", line, claim,
          nbdkit_handoff_code_name(nbdkit_handoff_error_code()), nbdkit_handoff_error());
  exit(EXIT_FAILURE);
}
#define CHECK(claim) check(claim, #claim, __LINE__)
#define CHECK_CODE(wanted) CHECK(nbdkit_handoff_error_code() == NBDKIT_HANDOFF_E_##wanted)

/* Reads 5 bytes at offset 0, little by little. */
static const unsigned char kRead[28] = {0x25, 0x60, 0x95, 0x13, 0,   0,   0, 0, 'c', 'o',
                                        'o',  'k',  'i',  'e',  '-', '1', 0, 0, 0,   0,
                                        0,    0,    0,    0,    0,   0,   0, 5};

static void finish_read(int fd, size_t sent, const char* expected) {
  char reply[21];
  CHECK(send(fd, kRead + sent, sizeof kRead - sent, MSG_NOSIGNAL) ==
        (ssize_t)(sizeof kRead - sent));
  CHECK(recv(fd, reply, sizeof reply, MSG_WAITALL) == sizeof reply);
  CHECK(memcmp(reply, "\x67\x44\x66\x98\0\0\0\0cookie-1", 16) == 0);
  CHECK(memcmp(reply + 16, expected, 5) == 0);
}

static struct nbdkit_handoff_served* give(struct nbdkit_handoff* handle, int* client,
                                          const struct nbdkit_handoff_serve_options* options) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  *client = pair[0];
  struct nbdkit_handoff_served* served = nbdkit_handoff_serve(handle, pair[1], options, -1);
  close(pair[1]);
  return served;
}

static void expect_event(struct nbdkit_handoff* handle, enum nbdkit_handoff_event_kind kind,
                         uint64_t id, enum nbdkit_handoff_reason reason) {
  struct nbdkit_handoff_event* event = nbdkit_handoff_next_event(handle, -1);
  CHECK(event != NULL);
  CHECK(event->kind == kind);
  CHECK(event->id == id);
  if (kind == NBDKIT_HANDOFF_EVENT_ENDED) CHECK(event->reason == reason);
  nbdkit_handoff_event_free(event);
}

static void expect_connection(struct nbdkit_handoff* handle, uint64_t id) {
  struct nbdkit_handoff_connections* list = nbdkit_handoff_list(handle, id - 1, -1);
  CHECK(list != NULL);
  CHECK(list->count == 1 && !list->more);
  CHECK(list->items[0]->id == id);
  CHECK(list->items[0]->has_user && list->items[0]->user == (uint32_t)getuid());
  CHECK(list->items[0]->phase == NBDKIT_HANDOFF_PHASE_TRANSMISSION);
  CHECK(list->items[0]->peer == NBDKIT_HANDOFF_PEER_KERNEL);
  nbdkit_handoff_connections_free(list);
}

static void refused_for_good_reason(struct nbdkit_handoff* handle) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  int client;
  options.expect_size = true;
  options.size = 4096;
  CHECK(give(handle, &client, &options) == NULL);
  CHECK_CODE(MISMATCH);
  CHECK(recv(client, &client, 1, 0) == 0);
  close(client);
  CHECK(nbdkit_handoff_serve(handle, STDIN_FILENO, NULL, -1) == NULL); /* /dev/null */
  CHECK_CODE(BAD_DESCRIPTOR);
  CHECK(nbdkit_handoff_close(handle, 999999, true, -1) == -1);
  CHECK_CODE(NO_SUCH_CONNECTION);
  CHECK(nbdkit_handoff_take_over(handle, 999999, -1) == NULL);
  CHECK_CODE(NO_SUCH_CONNECTION);

  options.expect_size = false;
  options.mode = NBDKIT_HANDOFF_MODE_HANDSHAKE;
  struct nbdkit_handoff_served* served = give(handle, &client, &options);
  char greeting[18];
  CHECK(served != NULL && served->info == NULL);
  CHECK(recv(client, greeting, sizeof greeting, MSG_WAITALL) == sizeof greeting);
  CHECK(memcmp(greeting, "NBDMAGICIHAVEOPT", 16) == 0);
  CHECK(nbdkit_handoff_take_over(handle, served->id, -1) == NULL);
  CHECK_CODE(NOT_MOVABLE);
  nbdkit_handoff_served_free(served);
  close(client);
}

/* A connection moves in the middle of a request's header, and its client sees nothing of it. */
static void move(struct nbdkit_handoff* from, struct nbdkit_handoff* to) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  int client;
  CHECK(nbdkit_handoff_subscribe(from, -1) == 0);
  options.peer = NBDKIT_HANDOFF_PEER_KERNEL;
  struct nbdkit_handoff_served* served = give(from, &client, &options);
  CHECK(served != NULL && served->info != NULL);
  CHECK(served->info->size == 1 << 20);
  expect_event(from, NBDKIT_HANDOFF_EVENT_BEGAN, served->id, NBDKIT_HANDOFF_REASON_CLOSED);
  expect_connection(from, served->id);
  finish_read(client, 0, "hello");
  CHECK(send(client, kRead, kHeaderCut, MSG_NOSIGNAL) == kHeaderCut);

  struct nbdkit_handoff_taken* taken = nbdkit_handoff_take_over(from, served->id, -1);
  CHECK(taken != NULL);
  CHECK(taken->id == served->id && taken->size == 1 << 20);
  CHECK(!taken->structured_replies && taken->context_count == 0);
  CHECK(taken->unread_length <= kHeaderCut);
  CHECK(memcmp(taken->unread, kRead, taken->unread_length) == 0);
  expect_event(from, NBDKIT_HANDOFF_EVENT_ENDED, served->id, NBDKIT_HANDOFF_REASON_MOVED);
  nbdkit_handoff_served_free(served);

  options.peer = taken->peer;
  options.expect_size = options.expect_flags = true;
  options.size = taken->size;
  options.flags = taken->flags;
  options.state = taken->state;
  options.export_name = taken->export_name;
  served = nbdkit_handoff_serve(to, taken->socket, &options, -1);
  CHECK(served != NULL);
  nbdkit_handoff_taken_free(taken);
  finish_read(client, kHeaderCut, "\0\0\0\0\0");
  CHECK(nbdkit_handoff_close(to, served->id, false, -1) == 0);
  CHECK(recv(client, &client, 1, 0) == 0);
  nbdkit_handoff_served_free(served);
  close(client);
}

static void* ask_often(void* handle) {
  for (int i = 0; i < kCalls; i++) {
    struct nbdkit_handoff_export* info =
        nbdkit_handoff_query((struct nbdkit_handoff*)handle, NULL, NBDKIT_HANDOFF_PEER_CLIENT, -1);
    CHECK(info != NULL);
    CHECK(info->size == 1 << 20);
    nbdkit_handoff_export_free(info);
  }
  return NULL;
}

static void ask_from_many_threads(struct nbdkit_handoff* handle) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    CHECK(pthread_create(&threads[i], NULL, ask_often, handle) == 0);
  }
  for (int i = 0; i < kThreads; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* SIGPIPE is as it always is, and would end this program. */
static void outlive_a_server(const char* nbdkit) {
  int pair[2], status;
  char option[64];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
  snprintf(option, sizeof option, "--handoff-fd=%d", pair[1]);
  pid_t server = fork();
  CHECK(server >= 0);
  if (server == 0) {
    close(pair[0]);
    execl(nbdkit, nbdkit, "-f", option, "null", "4096", (char*)NULL);
    _exit(127);
  }
  close(pair[1]);
  struct nbdkit_handoff* handle = nbdkit_handoff_adopt(pair[0]);
  CHECK(handle != NULL);
  struct nbdkit_handoff_export* info =
      nbdkit_handoff_query(handle, NULL, NBDKIT_HANDOFF_PEER_CLIENT, -1);
  CHECK(info != NULL);
  CHECK(info->size == 4096);
  nbdkit_handoff_export_free(info);
  CHECK(kill(server, SIGKILL) == 0);
  CHECK(waitpid(server, &status, 0) == server);
  for (int i = 0; i < 3; i++) {
    CHECK(nbdkit_handoff_query(handle, NULL, NBDKIT_HANDOFF_PEER_CLIENT, -1) == NULL);
    CHECK_CODE(DISCONNECTED);
  }
  nbdkit_handoff_free(handle);
}

int main(int argc, char* argv[]) {
  if (argc != 4) return EXIT_FAILURE;
  struct nbdkit_handoff* first = nbdkit_handoff_connect(argv[2], -1);
  CHECK(first != NULL);
  struct nbdkit_handoff* second = nbdkit_handoff_connect(argv[3], -1);
  CHECK(second != NULL);
  refused_for_good_reason(second);
  move(first, second);
  ask_from_many_threads(first);
  nbdkit_handoff_free(first);
  nbdkit_handoff_free(second);
  CHECK(nbdkit_handoff_connect("/does/not/exist", -1) == NULL);
  CHECK_CODE(SYSTEM);
  outlive_a_server(argv[1]);
  puts("all is true");
  return EXIT_SUCCESS;
}
