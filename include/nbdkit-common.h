/* SPDX-License-Identifier: BSD-3-Clause */
/* What a plugin may call: constants, and the functions that the server exports (nbdkit-plugin(3)).
 *
 * No function here takes a connection: the server knows which one the calling thread serves.
 * Functions that return int give 0 and -1 unless it says otherwise here, and on failure they have
 * called nbdkit_error. C99 or C++. */
#ifndef NBDKIT_COMMON_H
#define NBDKIT_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <nbdkit-version.h>

#if defined(__GNUC__) || defined(__clang__)
#define NBDKIT_ATTRIBUTE_FORMAT_PRINTF(format, first) \
  __attribute__((__format__(__printf__, format, first)))
#define NBDKIT_DLL_PUBLIC __attribute__((__visibility__("default")))
#else
#define NBDKIT_ATTRIBUTE_FORMAT_PRINTF(format, first)
#define NBDKIT_DLL_PUBLIC
#endif

#ifdef __cplusplus
#define NBDKIT_CXX_LANG_C extern "C"
extern "C" {
#else
#define NBDKIT_CXX_LANG_C
#endif

/* How many calls into a plugin the server makes at the same time. */
#define NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS 0  /* one connection after the other */
#define NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS 1 /* one call in the whole process */
#define NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS 2     /* one call for each connection */
#define NBDKIT_THREAD_MODEL_PARALLEL 3               /* any number */

/* Flags of a request. */
#define NBDKIT_FLAG_MAY_TRIM (1 << 0)  /* zero: may become a hole */
#define NBDKIT_FLAG_FUA (1 << 1)       /* pwrite, trim, zero: durable before it returns */
#define NBDKIT_FLAG_REQ_ONE (1 << 2)   /* extents: one extent is enough */
#define NBDKIT_FLAG_FAST_ZERO (1 << 3) /* zero: fail with ENOTSUP rather than be slow */

/* Results of can_fua. */
#define NBDKIT_FUA_NONE 0
#define NBDKIT_FUA_EMULATE 1 /* the server calls flush after the write */
#define NBDKIT_FUA_NATIVE 2  /* the plugin gets NBDKIT_FLAG_FUA */

/* Results of can_cache. */
#define NBDKIT_CACHE_NONE 0
#define NBDKIT_CACHE_EMULATE 1 /* the server calls pread and forgets the data */
#define NBDKIT_CACHE_NATIVE 2

/* Types of an extent; 0 is allocated data. */
#define NBDKIT_EXTENT_HOLE (1 << 0)
#define NBDKIT_EXTENT_ZERO (1 << 1)

/* For open, when there is nothing to keep for a connection. Never looked at, only not NULL. */
#define NBDKIT_HANDLE_NOT_NEEDED (&errno)

/* Messages. The text is one line; %m is the error in errno, which stays as it was. */
extern void nbdkit_error(const char* format, ...) NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 2);
extern void nbdkit_verror(const char* format, va_list args) NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 0);
/* Seen with --verbose only. */
extern void nbdkit_debug(const char* format, ...) NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 2);
extern void nbdkit_vdebug(const char* format, va_list args) NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 0);
extern void nbdkit_debug_hexdump(const void* buffer, size_t length, const char* prefix,
                                 uint64_t start);
extern void nbdkit_debug_hexdiff(const void* buffer1, const void* buffer2, size_t length,
                                 const char* prefix, uint64_t start);

/* The errno that the client is told when this call into the plugin fails. */
extern void nbdkit_set_error(int error);

/* Parameters. `what` names the value in the error message; `result` may be NULL. */
extern int64_t nbdkit_parse_size(const char* text);
extern int nbdkit_parse_bool(const char* text); /* 0, 1 or -1 */
extern int nbdkit_parse_int(const char* what, const char* text, int* result);
extern int nbdkit_parse_unsigned(const char* what, const char* text, unsigned* result);
extern int nbdkit_parse_int8_t(const char* what, const char* text, int8_t* result);
extern int nbdkit_parse_uint8_t(const char* what, const char* text, uint8_t* result);
extern int nbdkit_parse_int16_t(const char* what, const char* text, int16_t* result);
extern int nbdkit_parse_uint16_t(const char* what, const char* text, uint16_t* result);
extern int nbdkit_parse_int32_t(const char* what, const char* text, int32_t* result);
extern int nbdkit_parse_uint32_t(const char* what, const char* text, uint32_t* result);
extern int nbdkit_parse_int64_t(const char* what, const char* text, int64_t* result);
extern int nbdkit_parse_uint64_t(const char* what, const char* text, uint64_t* result);
extern int nbdkit_parse_probability(const char* what, const char* text, double* result);
extern int nbdkit_parse_delay(const char* what, const char* text, unsigned* seconds,
                              unsigned* nanoseconds);
/* "-" asks at the terminal, "-FD" and "+FILE" read the first line; all else is the password. The
 * caller frees *password. */
extern int nbdkit_read_password(const char* value, char** password);
/* Whether stdin and stdout may be used now. */
extern int nbdkit_stdio_safe(void);
/* To be freed by the caller; NULL is an error. */
extern char* nbdkit_absolute_path(const char* path);
extern char* nbdkit_realpath(const char* path);

/* Strings that live as long as the connection, or as the process when there is none. */
extern const char* nbdkit_strdup_intern(const char* text);
extern const char* nbdkit_strndup_intern(const char* text, size_t length_max);
extern const char* nbdkit_printf_intern(const char* format, ...)
    NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 2);
extern const char* nbdkit_vprintf_intern(const char* format, va_list args)
    NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 0);

/* The connection. */
extern const char* nbdkit_export_name(void);
extern int nbdkit_is_tls(void); /* 0, 1 or -1 */
extern int nbdkit_peer_name(struct sockaddr* address, socklen_t* length);
extern int64_t nbdkit_peer_pid(void);
extern int64_t nbdkit_peer_uid(void);
extern int64_t nbdkit_peer_gid(void);
/* To be freed by the caller. */
extern char* nbdkit_peer_security_context(void);
extern char* nbdkit_peer_tls_dn(void);
extern char* nbdkit_peer_tls_issuer_dn(void);
/* Ends this connection; with `force` at once, otherwise after what is under way. */
extern void nbdkit_disconnect(int force);

/* The server. */
extern void nbdkit_shutdown(void);
extern const char* nbdkit_name(void);
extern const char* nbdkit_timestamp(void);
/* Ends early, as a failure with ESHUTDOWN, when the server or the connection ends. */
extern int nbdkit_nanosleep(unsigned seconds, unsigned nanoseconds);

struct nbdkit_extent {
  uint64_t offset;
  uint64_t length;
  uint32_t type;
};

struct nbdkit_extents;
/* In ascending order and without gaps. */
extern int nbdkit_add_extent(struct nbdkit_extents* extents, uint64_t offset, uint64_t length,
                             uint32_t type);
extern struct nbdkit_extents* nbdkit_extents_new(uint64_t start, uint64_t end);
extern void nbdkit_extents_free(struct nbdkit_extents* extents);
extern size_t nbdkit_extents_count(const struct nbdkit_extents* extents);
extern struct nbdkit_extent nbdkit_get_extent(const struct nbdkit_extents* extents, size_t index);

struct nbdkit_exports;
/* `description` may be NULL. */
extern int nbdkit_add_export(struct nbdkit_exports* exports, const char* name,
                             const char* description);
extern int nbdkit_use_default_export(struct nbdkit_exports* exports);

#ifdef __cplusplus
}
#endif

#endif
