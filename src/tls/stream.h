// SPDX-License-Identifier: BSD-3-Clause
// TlsStream: an encrypted stream over another one, for servers and clients.
//
//   Result<std::unique_ptr<TlsStream>> tls = TlsStream::server(socket, credentials);
//   co_await tls.value()->handshake(loop, gate, TlsStream::Kernel::when_offered);
//   tls.value()->send(...);  // as any ByteStream
//   tls.value()->say_goodbye();
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/stream.h"
#include "tls/credentials.h"

namespace nbdkit {

// Whom the other side's certificate names (RFC 4514); empty when it has shown none.
struct TlsPeer {
  std::string name;
  std::string issuer;
};

class TlsStream final : public ByteStream {
 public:
  // Whether the kernel may encrypt what is sent. It has an effect on the socket that stays, and so
  // is not for sockets that somebody else has, too.
  enum class Kernel { never, when_offered };

  // `socket` outlives the stream, and is used by it alone from now on.
  static Result<std::unique_ptr<TlsStream>> server(ByteStream& socket,
                                                   TlsCredentials::Shared credentials);
  // `host` is whom the server's certificate must name, if the credentials verify it: a name or an
  // address. Empty: whoever is certified by an authority that is trusted.
  static Result<std::unique_ptr<TlsStream>> client(ByteStream& socket,
                                                   TlsCredentials::Shared credentials,
                                                   const std::string& host);
  ~TlsStream() override;

  // First of all, once. The computing is done by workers, and the waiting by the loop; the gate
  // ends it with operation_canceled. An Error is one line about what is wrong between the two
  // sides; nothing can be done with the stream then.
  Task<void> handshake(Loop& loop, Gate& gate, Kernel kernel);

  // As ByteStream says. After resource_unavailable_try_again, send() is called again with the same
  // bytes first: some of them may be on their way.
  Result<std::size_t> receive(std::span<iovec> into) override;
  Result<std::size_t> send(std::span<const iovec> from) override;
  int fd() const override { return socket_.fd(); }

  // Tells the other side that nothing more will come, if it can be told without waiting.
  void say_goodbye();

  // After the handshake.
  const TlsPeer& peer() const { return peer_; }
  bool kernel_sends() const { return kernel_sends_; }
  // Protocol and ciphers, for the log.
  std::string description() const;

 private:
  struct Session;
  struct Transport;

  static constexpr std::size_t kRecordMax = 16 * 1024;    // bytes in one record (RFC 8446, 5.1)
  static constexpr std::size_t kBatchBytes = 128 * 1024;  // of payload, sent with one call
  static constexpr std::size_t kReadAhead = 128 * 1024;
  // One after another of records that bring no data.
  static constexpr unsigned kEmptyRecordsMax = 64;

  TlsStream(ByteStream& socket, TlsCredentials::Shared credentials,
            std::unique_ptr<Session> session);
  static Result<std::unique_ptr<TlsStream>> make(ByteStream& socket,
                                                 TlsCredentials::Shared credentials, unsigned side);

  int step();
  Error handshake_error(int code) const;
  Result<std::size_t> receive_record(std::span<std::byte> into);
  Result<void> seal(std::span<const std::byte> bytes);
  Result<std::size_t> seal_batch(std::span<const iovec> from);
  // True when nothing of sealed_ is left, false when the socket takes no more now.
  Result<bool> flush();

  ByteStream& socket_;
  const TlsCredentials::Shared credentials_;
  std::unique_ptr<Session> session_;
  TlsPeer peer_;
  bool open_ = false;  // the handshake has succeeded
  bool kernel_sends_ = false;

  // Received and not yet decrypted.
  std::unique_ptr<std::byte[]> arrived_;
  std::size_t arrived_from_ = 0;
  std::size_t arrived_to_ = 0;
  bool ended_ = false;  // without a goodbye
  bool dry_ = false;    // the socket had nothing more
  // Encrypted and not yet sent, and how many bytes of send()'s caller are in it.
  std::vector<std::byte> sealed_;
  std::size_t sealed_from_ = 0;
  std::size_t owed_ = 0;
  std::unique_ptr<std::byte[]> record_;  // where small pieces become a large one
};

}  // namespace nbdkit
