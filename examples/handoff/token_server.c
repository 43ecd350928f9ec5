/* SPDX-License-Identifier: BSD-3-Clause */
/* A network protocol of one's own in front of NBD: a client has to know a token, and is served by
 * nbdkit from there on. What is said first is one line in each direction:
 *
 *   client: TOKEN sesame            server: OK 268435456 365     (bytes, transmission flags)
 *                                           NO
 *
 *   nbdkit --handoff=/tmp/control memory 256M &
 *   token_server /tmp/control 10811 sesame
 */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <nbdkit-handoff.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 128
#define PATIENCE_S 5

static void fail(const char* what, const char* why) {
  fprintf(stderr, "token_server: %s: %s\n", what, why);
  exit(1);
}

static int listen_on(const char* port) {
  struct sockaddr_in address = {0};
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)atoi(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0) {
    fail(port, strerror(errno));
  }
  return fd;
}

/* Byte by byte: what comes after the line is for the server. */
static int read_line(int fd, char line[LINE_MAX_BYTES]) {
  size_t length = 0;
  while (length + 1 < LINE_MAX_BYTES && recv(fd, line + length, 1, 0) == 1) {
    if (line[length] == '\n') {
      line[length] = '\0';
      return 0;
    }
    length++;
  }
  return -1;
}

static int knows_token(int client, const char* token) {
  char line[LINE_MAX_BYTES];
  return read_line(client, line) == 0 && strncmp(line, "TOKEN ", 6) == 0 &&
         strcmp(line + 6, token) == 0;
}

static void hand_on(struct nbdkit_handoff* handoff, int client) {
  struct nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  struct nbdkit_handoff_export* info;
  struct nbdkit_handoff_served* served = NULL;
  char line[LINE_MAX_BYTES];
  info = nbdkit_handoff_query(handoff, NULL, NBDKIT_HANDOFF_PEER_CLIENT,
                              NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  if (info == NULL) {
    fprintf(stderr, "token_server: %s\n", nbdkit_handoff_error());
    return;
  }
  snprintf(line, sizeof line, "OK %" PRIu64 " %u\n", info->size,
           (unsigned)info->transmission_flags);
  /* Before the socket is given away: afterwards only the server may write to it. */
  if (send(client, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line)) {
    options.size = info->size;
    options.expect_size = true;
    served = nbdkit_handoff_serve(handoff, client, &options, NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
    if (served == NULL) fprintf(stderr, "token_server: %s\n", nbdkit_handoff_error());
  }
  nbdkit_handoff_served_free(served);
  nbdkit_handoff_export_free(info);
}

int main(int argc, char** argv) {
  struct timeval patience = {PATIENCE_S, 0}, forever = {0, 0};
  struct nbdkit_handoff* handoff;
  int listener;
  if (argc != 4) {
    fprintf(stderr, "usage: %s CONTROL-SOCKET PORT TOKEN\n", argv[0]);
    return 2;
  }
  handoff = nbdkit_handoff_connect(argv[1], NBDKIT_HANDOFF_TIMEOUT_DEFAULT);
  if (handoff == NULL) fail(argv[1], nbdkit_handoff_error());
  listener = listen_on(argv[2]);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) fail("accept", strerror(errno));
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (knows_token(client, argv[3])) {
      setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
      hand_on(handoff, client);
    } else if (send(client, "NO\n", 3, MSG_NOSIGNAL) < 0) {
      perror("token_server");
    }
    close(client);
  }
}
