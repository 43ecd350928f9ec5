/* SPDX-License-Identifier: BSD-3-Clause */
/* A client of libnbd in C: requests of every kind on a disk of 16 MiB or more, one after the other
 * and many at once. usage: libnbd_client URI */

#include <errno.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kBlock = 64 * 1024, kBlocks = 64, kUnder = 8 * 1024 * 1024 };

static int failures;

static void check(int good, const char* claim) {
  if (good) return;
  const char* error = nbd_get_error();
  fprintf(stderr, "libnbd_client: %s: %s\n", claim, error != NULL ? error : "no");
  ++failures;
}

static int count_extents(void* data, const char* context, uint64_t offset, uint32_t* entries,
                         size_t count, int* error) {
  uint64_t* bytes = data;
  size_t i;
  (void)offset;
  check(strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 && *error == 0, "the context");
  for (i = 0; i < count; i += 2) *bytes += entries[i];
  return 1;
}

static int count_bytes(void* data, const void* bytes, size_t count, uint64_t offset,
                       unsigned status, int* error) {
  unsigned* chunks = data;
  (void)bytes;
  (void)offset;
  check(count == kBlock && status == LIBNBD_READ_DATA && *error == 0, "the chunk");
  ++*chunks;
  return 1;
}

static int completed(void* data, int* error) {
  size_t* count = data;
  check(*error == 0, "an asynchronous request");
  ++*count;
  return 1;
}

static void wait_for(struct nbd_handle* nbd, const size_t* count, size_t all) {
  while (*count < all) {
    if (nbd_poll(nbd, -1) < 0) {
      check(0, "poll");
      return;
    }
  }
}

static void one_after_the_other(struct nbd_handle* nbd) {
  static unsigned char data[kBlock], back[kBlock];
  uint64_t bytes = 0;
  unsigned count = 0;
  nbd_chunk_callback chunks = {.callback = count_bytes, .user_data = &count};
  nbd_extent_callback extents = {.callback = count_extents, .user_data = &bytes};
  memset(data, 0x5a, sizeof data);
  check(nbd_pwrite(nbd, data, sizeof data, 512, LIBNBD_CMD_FLAG_FUA) == 0, "write with FUA");
  check(nbd_pread_structured(nbd, back, sizeof back, 512, chunks, LIBNBD_CMD_FLAG_DF) == 0 &&
            count == 1,
        "read in one piece");
  check(memcmp(data, back, sizeof data) == 0, "what was written");
  check(nbd_zero(nbd, 4096, 4096, LIBNBD_CMD_FLAG_NO_HOLE) == 0, "zero");
  check(nbd_pread(nbd, back, 4096, 4096, 0) == 0 && back[0] == 0 && back[4095] == 0, "zeroes");
  check(nbd_trim(nbd, kBlock, 1024 * 1024, 0) == 0, "trim");
  check(nbd_cache(nbd, kBlock, 0, 0) == 0, "cache");
  check(nbd_flush(nbd, 0) == 0, "flush");
  check(nbd_block_status(nbd, kBlock, 0, extents, 0) == 0 && bytes >= kBlock, "block status");
  nbd_set_strict_mode(nbd, 0);
  check(
      nbd_pread(nbd, back, 512, (uint64_t)nbd_get_size(nbd), 0) == -1 && nbd_get_errno() == EINVAL,
      "a read beyond the end");
  check(
      nbd_pwrite(nbd, data, 512, (uint64_t)nbd_get_size(nbd), 0) == -1 && nbd_get_errno() == ENOSPC,
      "a write beyond the end");
  check(nbd_pread(nbd, back, 512, 512, 0) == 0 && back[0] == 0x5a, "a read behind that");
}

static void many_at_once(struct nbd_handle* nbd) {
  static unsigned char data[kBlocks][kBlock], back[kBlocks][kBlock];
  size_t i, written = 0, read = 0;
  for (i = 0; i < kBlocks; ++i) {
    nbd_completion_callback done = {.callback = completed, .user_data = &written};
    memset(data[i], (int)i + 1, kBlock);
    check(nbd_aio_pwrite(nbd, data[i], kBlock, kUnder + i * kBlock, done, 0) >= 0, "aio_pwrite");
  }
  wait_for(nbd, &written, kBlocks);
  for (i = 0; i < kBlocks; ++i) {
    nbd_completion_callback done = {.callback = completed, .user_data = &read};
    check(nbd_aio_pread(nbd, back[i], kBlock, kUnder + i * kBlock, done, 0) >= 0, "aio_pread");
  }
  wait_for(nbd, &read, kBlocks);
  check(memcmp(data, back, sizeof data) == 0, "what was written at once");
}

int main(int argc, char** argv) {
  struct nbd_handle* nbd = nbd_create();
  if (argc != 2 || nbd == NULL) return 2;
  nbd_set_uri_allow_local_file(nbd, true);
  check(nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0, "metadata");
  check(nbd_connect_uri(nbd, argv[1]) == 0, "connect");
  if (failures == 0) {
    one_after_the_other(nbd);
    many_at_once(nbd);
    check(nbd_shutdown(nbd, 0) == 0, "shutdown");
  }
  nbd_close(nbd);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
