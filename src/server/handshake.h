// SPDX-License-Identifier: BSD-3-Clause
// Handshake: the fixed newstyle negotiation of one connection, up to the open device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/channel.h"
#include "block/layer.h"
#include "proto/handshake.h"
#include "server/handshake_rules.h"
#include "server/tls_upgrade.h"
#include "server/transmission.h"

namespace nbdkit {

// On its connection's loop, for the time of the handshake.
class Handshake {
 public:
  // What one client may send before it is served.
  static constexpr std::uint32_t kOptionDataMax = 64 * 1024;  // longer ones are answered TOO_BIG
  static constexpr std::uint32_t kOptionSkipMax =
      64 * 1024 * 1024;  // longer ones end the connection
  static constexpr unsigned kOptionsMax = 32;
  static constexpr unsigned kOptionsPerExport = 32;  // more when the client asks for each export

  // All of it outlives the handshake. `context` gets the export's name.
  Handshake(Channel& channel, TlsUpgrade& upgrade, Layer& top, Context& context,
            const HandshakeRules& rules, std::string_view who)
      : channel_(channel),
        upgrade_(upgrade),
        top_(top),
        context_(context),
        rules_(rules),
        who_(who) {
    agreement_.read_only = context.read_only;
  }

  // The device that the client has chosen, or null when it left in good order. Errors are the
  // connection's: a client that breaks the protocol or the limits.
  Task<DevicePtr> run();

  const Agreement& agreement() const { return agreement_; }

 private:
  using Data = std::span<const std::byte>;

  Task<void> negotiate();
  Task<void> serve_oldstyle();
  Task<void> greet();
  // Ends with true when the negotiation is over.
  Task<bool> take_option();
  bool offers(Option option) const;
  bool needs_tls_first(Option option) const;
  Task<bool> handle(Option option, Data data);
  Task<bool> export_name(Data data);
  Task<void> list(Data data);
  Task<void> start_tls(Data data);
  Task<bool> info_or_go(Option option, Data data);
  Task<void> send_infos(Option option, std::span<const Info> wanted);
  Task<void> structured_reply(Data data);
  Task<void> extended_headers(Data data);
  Task<void> meta_context(Option option, Data data);
  void keep_meta_context_for(std::string_view export_name);

  Task<void> refuse_at_stop(Option option);
  Task<void> open(std::string name);
  Task<void> close();

  Task<void> reply(Option option, OptionReply type, Data data = {});
  Task<void> reply_text(Option option, OptionReply type, std::string_view text);

  Channel& channel_;
  TlsUpgrade& upgrade_;
  Layer& top_;
  Context& context_;
  const HandshakeRules& rules_;
  std::string_view who_;
  bool no_zeroes_ = false;
  bool fixed_newstyle_ = false;
  unsigned options_left_ = kOptionsMax;
  bool listed_ = false;
  Agreement agreement_;
  std::optional<std::string> meta_context_export_;  // what they were agreed on for
  DevicePtr device_;
};

}  // namespace nbdkit
