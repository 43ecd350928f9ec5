// SPDX-License-Identifier: BSD-3-Clause
#include "client/handshake.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "client/words.h"

namespace nbdkit {
namespace {

constexpr std::string_view kBaseAllocation = "base:allocation";

Error violation(std::string text) { return Error(std::errc::protocol_error, std::move(text)); }

template <typename Wire>
std::span<const std::byte> bytes_of(const Wire& wire) {
  return std::as_bytes(std::span(&wire, 1));
}

std::string_view meaning(OptionReply type) {
  switch (type) {
    case OptionReply::unsupported:
      return "it does not know how";
    case OptionReply::policy:
      return "it is not allowed to";
    case OptionReply::invalid:
      return "it does not understand the question";
    case OptionReply::platform:
      return "it cannot do that there";
    case OptionReply::tls_required:
      return "it wants TLS first";
    case OptionReply::unknown:
      return "it has no such export";
    case OptionReply::shutdown:
      return "it is about to end";
    case OptionReply::block_size_required:
      return "it wants its block sizes to be known";
    case OptionReply::too_big:
      return "the question is too long";
    default:
      return "it does not say why";
  }
}

}  // namespace

std::string ClientHandshake::Answer::text() const {
  return printable({reinterpret_cast<const char*>(data.data()), data.size()});
}

Error ClientHandshake::refused(std::string_view what, const Answer& answer) const {
  std::string said = answer.text();
  if (said.empty()) said = meaning(answer.type);
  auto code = answer.type == OptionReply::unknown ? std::errc::no_such_file_or_directory
                                                  : std::errc::connection_refused;
  return Error(code, fmt::format("the server refuses {}: {}", what, said));
}

Task<ClientAgreement> ClientHandshake::enter_export() {
  co_await begin();
  if (!oldstyle_) {
    if (fixed_newstyle_) {
      if (wishes_.chunks) co_await agree_on_chunks();
      co_await go();
    } else {
      co_await enter_by_name();
    }
  } else if (!wishes_.export_name.empty()) {
    co_await fail(Error(std::errc::no_such_file_or_directory,
                        "an oldstyle server has only one export, without a name"));
  }
  Result<void> good = check_export();
  if (!good.ok()) co_await fail(std::move(good).error());
  co_return std::move(agreement_);
}

Result<void> ClientHandshake::check_export() const {
  constexpr std::uint64_t kSizeMax = std::numeric_limits<std::int64_t>::max();
  if (agreement_.size > kSizeMax) return violation("the export is larger than 2^63 - 1 bytes");
  if (!agreement_.has(transmission_flag::kHasFlags)) {
    return violation("the export's flags are not valid");
  }
  return {};
}

Task<void> ClientHandshake::begin() {
  co_await greet();
  if (wishes_.tls != TlsMode::off && fixed_newstyle_) co_await start_tls();
  if (wishes_.tls == TlsMode::require && !agreement_.tls) {
    co_await fail(Error(std::errc::permission_denied, "the server has no TLS, which is required"));
  }
}

// The first option, so that nothing that was agreed upon in the clear has to be forgotten.
Task<void> ClientHandshake::start_tls() {
  bool agreed = co_await asks(Option::starttls);
  if (!agreed) co_return;
  Result<std::unique_ptr<TlsStream>> made =
      TlsStream::client(plain_, wishes_.credentials, wishes_.tls_host);
  if (!made.ok()) co_await fail(std::move(made).error());
  tls_ = std::move(made).value();
  co_await tls_->handshake(loop_, gate_, wishes_.tls_kernel);
  channel_.use(*tls_);
  agreement_.tls = true;
}

Task<void> ClientHandshake::greet() {
  struct {
    Be<std::uint64_t> magic;
    Be<std::uint64_t> kind;
  } begin;
  co_await channel_.read_wire(begin);
  if (begin.magic.get() != kGreetingMagic) {
    co_await fail(violation("it does not greet as an NBD server does"));
  }
  if (begin.kind.get() == OldstyleGreetingWire{}.oldstyle_magic.get()) {
    oldstyle_ = true;
    co_await read_oldstyle();
    co_return;
  }
  if (begin.kind.get() != kOptionMagic) {
    co_await fail(violation("it greets in a way that no NBD server has"));
  }
  Be<std::uint16_t> offered;
  co_await channel_.read_wire(offered);
  fixed_newstyle_ = (offered.get() & kFixedNewstyle) != 0;
  no_zeroes_ = (offered.get() & kNoZeroes) != 0;
  Be<std::uint32_t> accepted(
      static_cast<std::uint32_t>(offered.get() & (kFixedNewstyle | kNoZeroes)));
  co_await channel_.write(bytes_of(accepted));
}

Task<void> ClientHandshake::read_oldstyle() {
  struct {
    Be<std::uint64_t> size;
    Be<std::uint16_t> handshake_flags;
    Be<std::uint16_t> flags;
  } rest;
  static_assert(2 * sizeof(std::uint64_t) + sizeof rest == sizeof(OldstyleGreetingWire));
  co_await channel_.read_wire(rest);
  agreement_.size = rest.size.get();
  agreement_.flags = rest.flags.get();
  co_await channel_.skip(kExportNameZeroes);
}

Task<void> ClientHandshake::send_option(Option option, Data data) {
  OptionWire wire;
  wire.magic = kOptionMagic;
  wire.option = option;
  wire.length = static_cast<std::uint32_t>(data.size());
  std::vector<std::byte> whole(sizeof wire + data.size());
  std::memcpy(whole.data(), &wire, sizeof wire);
  if (!data.empty()) std::memcpy(whole.data() + sizeof wire, data.data(), data.size());
  co_await channel_.write(whole);
}

Task<ClientHandshake::Answer> ClientHandshake::read_answer(Option option) {
  OptionReplyWire wire;
  co_await channel_.read_wire(wire);
  if (wire.magic.get() != kOptionReplyMagic) {
    co_await fail(violation("its answer to an option is none"));
  }
  if (wire.option.get() != option) {
    co_await fail(violation("it answers an option that it was not asked"));
  }
  std::uint32_t length = wire.length.get();
  if (length > kAnswerDataMax) {
    co_await fail(violation(fmt::format("its answer to an option has {} bytes", length)));
  }
  Answer answer;
  answer.type = wire.type.get();
  answer.data.resize(length);
  co_await channel_.read(answer.data);
  co_return std::move(answer);
}

Task<bool> ClientHandshake::asks(Option option) {
  co_await send_option(option, Data());
  Answer answer = co_await read_answer(option);
  if (!answer.is_last()) co_await fail(violation("it answers an option at length"));
  co_return answer.type == OptionReply::ack;
}

// Extended headers have everything that structured replies have.
Task<void> ClientHandshake::agree_on_chunks() {
  agreement_.extended_headers = co_await asks(Option::extended_headers);
  agreement_.structured_replies = agreement_.extended_headers;
  if (!agreement_.extended_headers) {
    agreement_.structured_replies = co_await asks(Option::structured_reply);
  }
  if (agreement_.structured_replies) co_await agree_on_status();
}

Task<void> ClientHandshake::agree_on_status() {
  std::vector<std::byte> data = meta_context_request_data(wishes_.export_name, kBaseAllocation);
  co_await send_option(Option::set_meta_context, data);
  for (unsigned left = kAnswersMax; left > 0; --left) {
    Answer answer = co_await read_answer(Option::set_meta_context);
    if (answer.is_error()) agreement_.base_allocation.reset();
    if (answer.is_last()) co_return;
    std::optional<MetaContextAnswer> context = parse_meta_context_answer(answer.data);
    if (answer.type != OptionReply::meta_context || !context) {
      co_await fail(violation("its answer about metadata is malformed"));
    }
    if (context->name == kBaseAllocation) agreement_.base_allocation = context->id;
  }
  co_await fail(violation("its answer about metadata never ends"));
}

Task<void> ClientHandshake::go() {
  constexpr std::array kInfos{Info::name, Info::description, Info::block_size};
  std::vector<std::byte> data = info_request_data(wishes_.export_name, kInfos);
  co_await send_option(Option::go, data);
  ExportAnswer about;
  for (unsigned left = kAnswersMax;; --left) {
    Answer answer = co_await read_answer(Option::go);
    if (answer.type == OptionReply::unsupported && !agreement_.extended_headers) {
      co_await enter_by_name();
      co_return;
    }
    if (answer.is_error()) {
      co_await fail(
          refused(fmt::format("the export '{}'", printable(wishes_.export_name)), answer));
    }
    if (answer.type == OptionReply::ack) break;
    bool good = answer.type == OptionReply::info && add_info_answer(answer.data, about);
    if (!good) co_await fail(violation("what it says about the export is malformed"));
    if (left == 0) co_await fail(violation("what it says about the export never ends"));
  }
  if (!about.size) co_await fail(violation("it does not say how large the export is"));
  agreement_.size = *about.size;
  agreement_.flags = about.flags;
  agreement_.block_sizes = about.block_sizes;
  agreement_.canonical_name = std::move(about.name);
  agreement_.description = std::move(about.description);
}

// The only option that every newstyle server has; it cannot say no in words.
Task<void> ClientHandshake::enter_by_name() {
  co_await send_option(Option::export_name, std::as_bytes(std::span(wishes_.export_name)));
  ExportNameReplyWire wire;
  Result<void> got = co_await channel_.read_wire(wire).as_result();
  if (!got.ok()) {
    if (got.error().code != std::errc::connection_reset) co_await fail(std::move(got).error());
    co_await fail(Error(std::errc::no_such_file_or_directory,
                        fmt::format("the server hangs up when it is asked for the export '{}'",
                                    printable(wishes_.export_name))));
  }
  agreement_.size = wire.size.get();
  agreement_.flags = wire.flags.get();
  if (!no_zeroes_) co_await channel_.skip(kExportNameZeroes);
}

Task<std::vector<ListAnswer>> ClientHandshake::list_exports() {
  co_await begin();
  std::vector<ListAnswer> exports;
  if (oldstyle_) {
    exports.resize(1);
    co_return std::move(exports);
  }
  if (!fixed_newstyle_) {
    co_await fail(Error(std::errc::operation_not_supported, "the server cannot list its exports"));
  }
  co_await send_option(Option::list, Data());
  for (;;) {
    Answer answer = co_await read_answer(Option::list);
    if (answer.is_error()) co_await fail(refused("to list its exports", answer));
    if (answer.type == OptionReply::ack) break;
    std::optional<ListAnswer> entry = parse_list_answer(answer.data);
    if (answer.type != OptionReply::server || !entry) {
      co_await fail(violation("its list of exports is malformed"));
    }
    if (exports.size() == kExportsMax) co_await fail(violation("its list of exports never ends"));
    exports.push_back(std::move(*entry));
  }
  // It may hang up at once, so nobody waits for an answer.
  Result<void> left = co_await send_option(Option::abort, Data()).as_result();
  static_cast<void>(left);
  co_return std::move(exports);
}

}  // namespace nbdkit
