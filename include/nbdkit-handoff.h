/* SPDX-License-Identifier: BSD-3-Clause */
/* libnbdkit-handoff: give a server your own connected socket, and it serves it (nbdkit-handoff(3)).
 *
 * Threads. A handle may be used by several threads at the same time: every request has a number,
 * and whichever thread happens to read an answer passes it on to the one that waits for it. Only
 * nbdkit_handoff_free() wants to be alone. The last error belongs to the thread that made the call.
 * A handle that has been used is of no use to the child after fork().
 *
 * Waiting. No call waits longer than its timeout, and signals do not end it. No call raises
 * SIGPIPE.
 *
 * Results are allocated by the library, freed by the function named with them, and may grow at
 * their end: do not copy them as a whole. Texts are UTF-8 and never null.
 */
#ifndef NBDKIT_HANDOFF_H
#define NBDKIT_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For timeout_ms: 30 seconds. */
#define NBDKIT_HANDOFF_TIMEOUT_DEFAULT (-1)

/* Why a call has failed. Numbers never change; new ones may come. */
enum nbdkit_handoff_code {
  NBDKIT_HANDOFF_OK = 0,

  /* Said by the server; docs/handoff-protocol.md, "Errors". */
  NBDKIT_HANDOFF_E_BAD_MESSAGE = 1,
  NBDKIT_HANDOFF_E_UNSUPPORTED_VERSION = 2,
  NBDKIT_HANDOFF_E_UNKNOWN_VERB = 3,
  NBDKIT_HANDOFF_E_UNKNOWN_KEY = 4,
  NBDKIT_HANDOFF_E_BAD_VALUE = 5,
  NBDKIT_HANDOFF_E_NO_DESCRIPTOR = 6,
  NBDKIT_HANDOFF_E_UNEXPECTED_DESCRIPTOR = 7,
  NBDKIT_HANDOFF_E_BAD_DESCRIPTOR = 8,
  NBDKIT_HANDOFF_E_FORBIDDEN = 9,
  NBDKIT_HANDOFF_E_NO_SUCH_EXPORT = 10,
  NBDKIT_HANDOFF_E_NO_SUCH_CONNECTION = 11,
  NBDKIT_HANDOFF_E_NOT_MOVABLE = 12,
  NBDKIT_HANDOFF_E_MISMATCH = 13,
  NBDKIT_HANDOFF_E_LIMIT = 14,
  NBDKIT_HANDOFF_E_TIMEOUT = 15, /* nothing has changed */
  NBDKIT_HANDOFF_E_FAILED = 16,
  NBDKIT_HANDOFF_E_OTHER = 99, /* a code that this library does not know */

  /* Found by the library. */
  NBDKIT_HANDOFF_E_INVALID = 100,      /* an argument of the call; nothing was sent */
  NBDKIT_HANDOFF_E_SYSTEM = 101,       /* the operating system refuses something */
  NBDKIT_HANDOFF_E_NO_ANSWER = 102,    /* in time; what the server has done is not known */
  NBDKIT_HANDOFF_E_DISCONNECTED = 103, /* the server has gone: free the handle */
  NBDKIT_HANDOFF_E_PROTOCOL = 104      /* the server does not keep to the protocol */
};

/* About the last call of this thread that failed. The sentence is valid until the next one does. */
enum nbdkit_handoff_code nbdkit_handoff_error_code(void);
const char* nbdkit_handoff_error(void);
/* "no-such-export" and so on: the names of the protocol; "unknown" for what is no code. */
const char* nbdkit_handoff_code_name(enum nbdkit_handoff_code code);

/* One control socket of a server. */
struct nbdkit_handoff;

/* All functions that return a pointer return NULL, and all that return an int -1, when they fail.
 */

/* To the socket of nbdkit --handoff=PATH. */
struct nbdkit_handoff* nbdkit_handoff_connect(const char* path, int timeout_ms);
/* The other end of the socket of nbdkit --handoff-fd=N: connected, AF_UNIX, SOCK_SEQPACKET. It
 * belongs to the handle from now on, unless this fails. Its flags and options stay as they are,
 * except that it is close-on-exec. */
struct nbdkit_handoff* nbdkit_handoff_adopt(int socket);
/* Connections that were given to the server live on. NULL is allowed. */
void nbdkit_handoff_free(struct nbdkit_handoff* handle);

enum nbdkit_handoff_peer {
  NBDKIT_HANDOFF_PEER_CLIENT = 0,
  NBDKIT_HANDOFF_PEER_KERNEL = 1 /* Linux's nbd driver */
};
enum nbdkit_handoff_mode {
  NBDKIT_HANDOFF_MODE_TRANSMISSION = 1, /* begins with the first request, without a handshake */
  NBDKIT_HANDOFF_MODE_HANDSHAKE = 2     /* begins with the newstyle handshake */
};
/* What is left of answered writes when the server dies. */
enum nbdkit_handoff_survives {
  NBDKIT_HANDOFF_SURVIVES_NOTHING = 0,
  NBDKIT_HANDOFF_SURVIVES_FLUSHED = 1, /* what was flushed or written with FUA */
  NBDKIT_HANDOFF_SURVIVES_DURABLE = 2  /* everything */
};

struct nbdkit_handoff_export {
  uint64_t size;               /* in bytes, at most 2^63 - 1 */
  uint16_t transmission_flags; /* of the NBD protocol; bit 0 is always set */
  uint32_t block_size_minimum; /* bytes; all three are 0 when there is no preference */
  uint32_t block_size_preferred;
  uint32_t block_size_maximum;
  uint32_t maximum_payload; /* bytes of the largest read or write */
  bool multi_conn;          /* several sockets may be given for one device */
  bool shared_open;         /* two servers may have the data open at the same time */
  bool swap_fit;            /* requests are served without allocating memory */
  enum nbdkit_handoff_survives survives;
  const char* identity; /* which data this is; "" when nobody can tell */
  const char* description;
};

/* What would this export be? NULL is the default export, as is "". */
struct nbdkit_handoff_export* nbdkit_handoff_query(struct nbdkit_handoff* handle,
                                                   const char* export_name,
                                                   enum nbdkit_handoff_peer peer, int timeout_ms);
void nbdkit_handoff_export_free(struct nbdkit_handoff_export* info);

/* Begin with NBDKIT_HANDOFF_SERVE_INIT, which says which version of this struct it is. */
struct nbdkit_handoff_serve_options {
  size_t struct_size;
  enum nbdkit_handoff_mode mode; /* required */
  enum nbdkit_handoff_peer peer;
  const char* export_name; /* NULL: the default one; in a handshake the client chooses */
  const char* state;       /* go on where another server has stopped; NULL: nowhere */
  uint64_t size;           /* what you count on, if expect_size */
  uint16_t flags;          /* transmission flags that you will act on, if expect_flags */
  bool expect_size;
  bool expect_flags;
  bool insecure; /* TCP or vsock without TLS, although the server requires it of its clients */
};
#define NBDKIT_HANDOFF_SERVE_INIT                                                  \
  {                                                                                \
    sizeof(struct nbdkit_handoff_serve_options), NBDKIT_HANDOFF_MODE_TRANSMISSION, \
        NBDKIT_HANDOFF_PEER_CLIENT, NULL, NULL, 0, 0, false, false, false          \
  }

struct nbdkit_handoff_served {
  uint64_t id;                              /* of the connection, while the server runs */
  const struct nbdkit_handoff_export* info; /* part of this; NULL after a handshake was asked for */
};

/* Serve this connected stream socket. It stays yours: close it when you like. NULL for options:
 * transmission mode, the default export. When it returns the export is open. */
struct nbdkit_handoff_served* nbdkit_handoff_serve(
    struct nbdkit_handoff* handle, int socket, const struct nbdkit_handoff_serve_options* options,
    int timeout_ms);
void nbdkit_handoff_served_free(struct nbdkit_handoff_served* served);

enum nbdkit_handoff_phase {
  NBDKIT_HANDOFF_PHASE_HANDSHAKE = 1,
  NBDKIT_HANDOFF_PHASE_TRANSMISSION = 2,
  NBDKIT_HANDOFF_PHASE_ENDING = 3
};

struct nbdkit_handoff_connection {
  uint64_t id;
  bool has_user; /* false: it came by a listening socket of the server or by --fd */
  uint32_t user; /* uid of who gave it */
  enum nbdkit_handoff_mode mode;
  enum nbdkit_handoff_phase phase;
  enum nbdkit_handoff_peer peer;
  const char* export_name; /* "" while the client has not named it */
};

struct nbdkit_handoff_connections {
  size_t count;
  const struct nbdkit_handoff_connection* const* items; /* part of this, the smallest id first */
  bool more; /* there are others: ask for those after the last id */
};

/* Which connections are there? At most 128 of those with a greater id than `after`. */
struct nbdkit_handoff_connections* nbdkit_handoff_list(struct nbdkit_handoff* handle,
                                                       uint64_t after, int timeout_ms);
void nbdkit_handoff_connections_free(struct nbdkit_handoff_connections* connections);

/* End a connection. drain: what has been received is answered first. Returns 0 when it has ended
 * and its export is closed. */
int nbdkit_handoff_close(struct nbdkit_handoff* handle, uint64_t id, bool drain, int timeout_ms);

struct nbdkit_handoff_context {
  const char* name;
  uint32_t id;
};

struct nbdkit_handoff_taken {
  int socket; /* close-on-exec; freeing this closes it: take it and leave -1 */
  uint64_t id;
  enum nbdkit_handoff_peer peer;
  uint64_t size;
  uint16_t flags;
  const char* export_name;
  const char* state; /* for nbdkit_handoff_serve(), as it is; for others it says: */
  bool structured_replies;
  bool extended_headers; /* only with structured_replies */
  size_t context_count;  /* metadata contexts that were negotiated */
  const struct nbdkit_handoff_context* contexts;
  size_t unread_length; /* bytes of a request's header that come before what is in the socket */
  const unsigned char* unread;
  /* Bytes; what the client has been told and keeps to. All three are 0 when it has not asked. */
  uint32_t block_size_minimum;
  uint32_t block_size_preferred;
  uint32_t block_size_maximum;
};

/* Give the socket of this connection back, after the last reply and before the next request. The
 * server has three quarters of the time, at most a minute: when it does not get there, that is
 * NBDKIT_HANDOFF_E_TIMEOUT and the connection goes on. Any other failure but those of the server
 * may have lost the connection. */
struct nbdkit_handoff_taken* nbdkit_handoff_take_over(struct nbdkit_handoff* handle, uint64_t id,
                                                      int timeout_ms);
void nbdkit_handoff_taken_free(struct nbdkit_handoff_taken* taken);

enum nbdkit_handoff_event_kind {
  NBDKIT_HANDOFF_EVENT_BEGAN = 1,   /* connection */
  NBDKIT_HANDOFF_EVENT_ENDED = 2,   /* id, reason */
  NBDKIT_HANDOFF_EVENT_MISSED = 3,  /* count: so many events are missing here */
  NBDKIT_HANDOFF_EVENT_STOPPING = 4 /* the server is about to end */
};
enum nbdkit_handoff_reason {
  NBDKIT_HANDOFF_REASON_DISCONNECTED = 1, /* the client said so */
  NBDKIT_HANDOFF_REASON_CLOSED = 2,       /* it left without a word */
  NBDKIT_HANDOFF_REASON_FAILED = 3,       /* the socket, the handshake or the export */
  NBDKIT_HANDOFF_REASON_STOPPED = 4,      /* nbdkit_handoff_close(), or the server ends */
  NBDKIT_HANDOFF_REASON_MOVED = 5         /* nbdkit_handoff_take_over() */
};

struct nbdkit_handoff_event {
  enum nbdkit_handoff_event_kind kind;
  enum nbdkit_handoff_reason reason;                  /* 0 unless it ended */
  uint64_t id;                                        /* of the connection that began or ended */
  uint64_t count;                                     /* 0 unless some are missing */
  const struct nbdkit_handoff_connection* connection; /* part of this; NULL unless it began */
};

/* Tell me what happens. Events are kept for nbdkit_handoff_next_event() while other calls wait: up
 * to 64, after that they are only counted. */
int nbdkit_handoff_subscribe(struct nbdkit_handoff* handle, int timeout_ms);
/* The next event; NBDKIT_HANDOFF_E_NO_ANSWER when there is none in time. 0 does not wait. */
struct nbdkit_handoff_event* nbdkit_handoff_next_event(struct nbdkit_handoff* handle,
                                                       int timeout_ms);
void nbdkit_handoff_event_free(struct nbdkit_handoff_event* event);

#ifdef __cplusplus
}
#endif

#endif
