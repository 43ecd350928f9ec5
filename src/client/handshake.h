// SPDX-License-Identifier: BSD-3-Clause
// ClientHandshake: the client's side of the negotiation, on a stream that is connected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/channel.h"
#include "client/agreement.h"
#include "proto/handshake.h"
#include "proto/option_answers.h"
#include "tls/mode.h"
#include "tls/stream.h"

namespace nbdkit {

struct HandshakeWishes {
  std::string export_name;
  // Structured replies, extended headers and base:allocation, as far as the server has them.
  bool chunks = true;
  TlsMode tls = TlsMode::off;
  TlsCredentials::Shared credentials;  // unless it is off
  std::string tls_host;                // whom the server's certificate must name
  TlsStream::Kernel tls_kernel = TlsStream::Kernel::when_offered;
};

// One run of one of the two Tasks. Every wait ends with operation_canceled when the gate closes.
// protocol_error: the server says what no server may; its words are in the detail.
class ClientHandshake {
 public:
  static constexpr std::size_t kAnswerDataMax = 16 * 1024;  // bytes behind one answer's header
  static constexpr unsigned kAnswersMax = 64;               // to one option
  static constexpr unsigned kExportsMax = 10'000;           // in a list

  // What is given outlives it. Never reads beyond the end of the handshake.
  ClientHandshake(Loop& loop, Gate& gate, ByteStream& stream, const HandshakeWishes& wishes)
      : loop_(loop), gate_(gate), plain_(stream), channel_(loop, gate, stream), wishes_(wishes) {}

  // Ends in front of the first request.
  Task<ClientAgreement> enter_export();
  // Asks which exports there are and takes leave.
  Task<std::vector<ListAnswer>> list_exports();

  // Afterwards, when TLS was agreed upon: what is to be used instead of the stream, above it.
  std::unique_ptr<TlsStream> take_tls() { return std::move(tls_); }

 private:
  using Data = std::span<const std::byte>;
  struct Answer {
    OptionReply type = OptionReply::ack;
    std::vector<std::byte> data;

    bool is_error() const { return (static_cast<std::uint32_t>(type) & 0x80000000u) != 0; }
    bool is_last() const { return type == OptionReply::ack || is_error(); }
    std::string text() const;
  };

  Task<void> begin();
  Task<void> greet();
  Task<void> start_tls();
  Task<void> read_oldstyle();
  Task<void> agree_on_chunks();
  Task<void> agree_on_status();
  Task<void> go();
  Task<void> enter_by_name();
  Task<void> send_option(Option option, Data data);
  Task<Answer> read_answer(Option option);
  // For options whose answer is yes or no.
  Task<bool> asks(Option option);
  Result<void> check_export() const;
  Error refused(std::string_view what, const Answer& answer) const;

  Loop& loop_;
  Gate& gate_;
  ByteStream& plain_;
  std::unique_ptr<TlsStream> tls_;
  Channel channel_;
  const HandshakeWishes& wishes_;
  ClientAgreement agreement_;
  bool oldstyle_ = false;
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
};

}  // namespace nbdkit
