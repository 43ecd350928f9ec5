// SPDX-License-Identifier: BSD-3-Clause
// What the server makes of the handshake of a client that it does not know. The first byte of the
// input says what the operator allows: 1 no structured replies and extended headers, 2 no metadata
// contexts, 4 TLS is required, 8 oldstyle, 16 the client speaks in small pieces, 32 the fixed
// newstyle is not offered. The rest is all that the client says.
#include <memory>
#include <string>
#include <vector>

#include "input_stream.h"
#include "proto/option_reader.h"
#include "server/handshake.h"

namespace nbdkit {
namespace {

enum Flags : unsigned {
  kNoChunks = 1,
  kNoContexts = 2,
  kTlsRequired = 4,
  kOldstyle = 8,
  kSmallPieces = 16,
  kNotFixed = 32,
};

class SilentLog final : public Log {
 public:
  SilentLog() : Log("fuzz", true) {}
  void write(LogLevel, std::string_view, std::string_view) override {}
};

// Counts itself.
class Device final : public BlockDevice {
 public:
  explicit Device(int& open) : BlockDevice(properties()), open_(open) { ++open_; }
  ~Device() override { --open_; }

  Task<void> pread(Request, Reply&) override { return Result<void>(std::errc::io_error); }

 private:
  static Properties properties() {
    Properties all;
    all.size = 4096;
    all.can_write = all.can_extents = true;
    all.block_size = {512, 4096, 1 << 20};
    all.description = "a disk";
    return all;
  }

  int& open_;
};

class Exports final : public Layer {
 public:
  Contract contract() const override { return {}; }
  Task<std::vector<ExportEntry>> list_exports(Context&) override {
    std::vector<ExportEntry> all{{"disk", "described"}, {std::string(kNameMax, 'n'), ""}};
    return Result<std::vector<ExportEntry>>(std::move(all));
  }
  Task<std::string> default_export(Context&) override {
    return Result<std::string>(std::string("disk"));
  }
  Task<DevicePtr> open(Context& context) override {
    NBDKIT_CHECK(context.export_name.size() <= kStringMax);
    if (context.export_name == "bad") return Result<DevicePtr>(Error(std::errc::io_error, "bad"));
    if (context.export_name == "tls") return Result<DevicePtr>(Error(kNeedsTls, "TLS only"));
    return Result<DevicePtr>(std::make_unique<Device>(open_));
  }

  int devices() const { return open_; }

 private:
  int open_ = 0;
};

HandshakeRules rules_of(unsigned flags) {
  HandshakeRules rules;
  rules.chunks = (flags & kNoChunks) == 0;
  rules.meta_contexts = (flags & kNoContexts) == 0;
  rules.tls_required = (flags & kTlsRequired) != 0;
  rules.oldstyle = (flags & kOldstyle) != 0;
  if ((flags & kNotFixed) != 0) rules.flags &= static_cast<std::uint16_t>(~kFixedNewstyle);
  return rules;
}

// What is agreed upon is what the operator allows, and nothing that makes no sense.
void check_agreement(const Agreement& agreement, const HandshakeRules& rules) {
  NBDKIT_CHECK(!agreement.structured_replies || rules.chunks);
  NBDKIT_CHECK(!agreement.extended_headers || agreement.structured_replies);
  NBDKIT_CHECK(agreement.contexts.empty() || (agreement.structured_replies && rules.meta_contexts));
}

void check(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const unsigned flags = input[0];
  input = input.subspan(1);
  WorkerPool workers;
  Loop loop(workers);
  Gate gate(loop);
  SilentLog log;
  Context context(loop, gate, log, 1);
  const HandshakeRules rules = rules_of(flags);
  InputStream stream(input, (flags & kSmallPieces) != 0 ? 3 : input.size());
  Channel channel(loop, gate, stream);
  TlsUpgrade upgrade(context, stream, TlsStream::Kernel::never);
  Exports exports;
  {
    Handshake handshake(channel, upgrade, exports, context, rules, "fuzz");
    Task<DevicePtr> task = handshake.run();
    NBDKIT_CHECK(task.done());  // The stream always has something to say.
    Result<DevicePtr> device = task.take();
    NBDKIT_CHECK(exports.devices() == (device.ok() && device.value() ? 1 : 0));
    if (device.ok() && device.value()) check_agreement(handshake.agreement(), rules);
  }
  NBDKIT_CHECK(exports.devices() == 0);
}

}  // namespace
}  // namespace nbdkit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nbdkit::check({data, size});
  return 0;
}
