// SPDX-License-Identifier: BSD-3-Clause
#include "server/handshake.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "proto/option_data.h"
#include "server/control_trace.h"
#include "server/export_info.h"
#include "server/farewell.h"

namespace nbdkit {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string_view data_text(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

template <typename Wire>
std::span<const std::byte> bytes_of_wire(const Wire& wire) {
  return std::as_bytes(std::span(&wire, 1));
}

// A number and a text behind it, as several option replies have them.
template <typename T>
std::vector<std::byte> number_and_text(T number, std::string_view text) {
  Be<T> wire(number);
  std::vector<std::byte> data(sizeof wire + text.size());
  std::memcpy(data.data(), &wire, sizeof wire);
  if (!text.empty()) std::memcpy(data.data() + sizeof wire, text.data(), text.size());
  return data;
}

bool wants(std::span<const Info> wanted, Info one) {
  return std::find(wanted.begin(), wanted.end(), one) != wanted.end();
}

// A list may ask for all of them, or for all of a namespace.
bool asks_for(std::span<const std::string> queries, const MetaContext& context, bool set) {
  if (!set && queries.empty()) return true;
  const std::string_view its_namespace = context.name.substr(0, context.name.find(':') + 1);
  return std::any_of(queries.begin(), queries.end(), [&](const std::string& query) {
    return query == context.name || (!set && query == its_namespace);
  });
}

}  // namespace

Task<DevicePtr> Handshake::run() {
  Result<void> result = co_await negotiate().as_result();
  if (!result.ok()) {
    if (device_) co_await close();
    co_await fail(std::move(result).error());
  }
  co_return std::move(device_);
}

Task<void> Handshake::negotiate() {
  trace_control(context_, who_, "preconnect");
  co_await top_.preconnect(context_);
  if (rules_.oldstyle) {
    co_await serve_oldstyle();
    co_return;
  }
  co_await greet();
  bool over = false;
  while (!over) over = co_await take_option();
}

Task<void> Handshake::serve_oldstyle() {
  co_await open(std::string());
  ExportInfo info = export_info(device_->properties(), agreement_.read_only, false);
  std::array<std::byte, sizeof(OldstyleGreetingWire) + kExportNameZeroes> greeting{};
  OldstyleGreetingWire wire;
  wire.size = info.size;
  wire.flags = info.transmission_flags;
  std::memcpy(greeting.data(), &wire, sizeof wire);
  co_await channel_.write(greeting);
}

Task<void> Handshake::greet() {
  GreetingWire greeting;
  greeting.flags = rules_.flags;
  co_await channel_.write(bytes_of_wire(greeting));
  Be<std::uint32_t> answer;
  co_await channel_.read_wire(answer);
  std::uint32_t flags = answer.get();
  const std::uint32_t unknown = flags & ~std::uint32_t{rules_.flags};
  if (unknown != 0) {
    co_await fail(format_error(std::errc::protocol_error,
                               "the client has handshake flags that were not offered: {:#x}",
                               unknown));
  }
  no_zeroes_ = (flags & kNoZeroes) != 0;
  fixed_newstyle_ = (flags & kFixedNewstyle) != 0;
}

Task<bool> Handshake::take_option() {
  OptionWire wire;
  co_await channel_.read_wire(wire);
  if (wire.magic.get() != kOptionMagic) {
    co_await fail(Error(std::errc::protocol_error, "the client sent no valid option"));
  }
  if (options_left_-- == 0) {
    co_await fail(Error(std::errc::protocol_error, "the client sent too many options"));
  }
  Option option = wire.option.get();
  if (context_.gate().closed()) co_await refuse_at_stop(option);
  std::uint32_t length = wire.length.get();
  if (length > kOptionSkipMax) {
    co_await fail(Error(std::errc::protocol_error, "the client sent an endless option"));
  }
  bool over = false;
  if (length > kOptionDataMax) {
    co_await channel_.skip(length);
    if (option == Option::export_name) {  // Has no reply that could say no.
      co_await fail(Error(std::errc::protocol_error, "the client's export name is too long"));
    }
    if (option == Option::set_meta_context) agreement_.contexts.clear();
    const OptionReply answer =
        needs_tls_first(option) ? OptionReply::tls_required : OptionReply::too_big;
    co_await reply_text(option, answer, "the option is too long");
  } else {
    std::vector<std::byte> data(length);
    co_await channel_.read(data);
    over = co_await handle(option, data);
  }
  co_return over;
}

bool Handshake::offers(Option option) const {
  switch (option) {
    case Option::export_name:
    case Option::abort:
    case Option::list:
    case Option::info:
    case Option::go:
      return true;
    case Option::structured_reply:
    case Option::extended_headers:
      return rules_.chunks;
    case Option::list_meta_context:
    case Option::set_meta_context:
      return rules_.meta_contexts;
    case Option::starttls:
      return true;
  }
  return false;
}

// NBD protocol, "TLS versions": FORCEDTLS. Leaving is always allowed.
bool Handshake::needs_tls_first(Option option) const {
  return rules_.tls_required && !context_.tls && option != Option::starttls &&
         option != Option::abort;
}

Task<bool> Handshake::handle(Option option, Data data) {
  if (needs_tls_first(option)) {
    if (option == Option::export_name) {  // Has no reply that could say no.
      co_await fail(Error(std::errc::protocol_error, "the client wants an export without TLS"));
    }
    co_await reply_text(option, OptionReply::tls_required, "this server requires TLS");
    co_return false;
  }
  if (!fixed_newstyle_ && option != Option::export_name && option != Option::abort) {
    co_await reply_text(option, OptionReply::invalid, "the client's flags allow only a name");
    co_return false;
  }
  if (!offers(option)) {
    co_await reply_text(option, OptionReply::unsupported, "not supported");
    co_return false;
  }
  switch (option) {
    case Option::export_name:
      co_return co_await export_name(data);
    case Option::abort:
      co_await reply(option, OptionReply::ack);
      co_return true;
    case Option::list:
      co_await list(data);
      break;
    case Option::info:
    case Option::go:
      co_return co_await info_or_go(option, data);
    case Option::structured_reply:
      co_await structured_reply(data);
      break;
    case Option::extended_headers:
      co_await extended_headers(data);
      break;
    case Option::list_meta_context:
    case Option::set_meta_context:
      co_await meta_context(option, data);
      break;
    case Option::starttls:
      co_await start_tls(data);
      break;
  }
  co_return false;
}

// What was agreed on before may be what somebody in between has said: all of it is forgotten
// (NBD protocol, NBD_OPT_STARTTLS). Nothing has been received ahead of it; whatever else the client
// has sent in plain text ends the handshake of TLS, and with it the connection.
Task<void> Handshake::start_tls(Data data) {
  Option option = Option::starttls;
  if (!rules_.tls) {
    co_await reply_text(option, OptionReply::policy, "TLS is not available here");
    co_return;
  }
  if (!data.empty() || context_.tls) {
    co_await reply_text(option, OptionReply::invalid, "asked for twice, or with data");
    co_return;
  }
  co_await reply(option, OptionReply::ack);
  co_await upgrade_.start(channel_, rules_.tls, who_);
  agreement_ = Agreement();
  agreement_.read_only = context_.read_only;
  meta_context_export_.reset();
  context_.export_name.clear();
  listed_ = false;
  options_left_ = kOptionsMax;
}

Task<bool> Handshake::export_name(Data data) {
  if (data.size() > kStringMax) {
    co_await fail(Error(std::errc::protocol_error, "the client's export name is too long"));
  }
  if (!is_string(data_text(data))) {
    co_await fail(Error(std::errc::protocol_error, "the client's export name is no string"));
  }
  if (agreement_.extended_headers) {
    co_await fail(Error(std::errc::protocol_error,
                        "the client asked for extended headers, and then not for GO"));
  }
  co_await open(std::string(data_text(data)));
  keep_meta_context_for(data_text(data));
  ExportInfo info =
      export_info(device_->properties(), agreement_.read_only, agreement_.structured_replies);
  std::array<std::byte, sizeof(ExportNameReplyWire) + kExportNameZeroes> answer{};
  ExportNameReplyWire wire;
  wire.size = info.size;
  wire.flags = info.transmission_flags;
  std::memcpy(answer.data(), &wire, sizeof wire);
  co_await channel_.write(std::span(answer).first(no_zeroes_ ? sizeof wire : answer.size()));
  co_return true;
}

Task<void> Handshake::list(Data data) {
  if (!data.empty()) {
    co_await reply_text(Option::list, OptionReply::invalid, "a list has no data");
    co_return;
  }
  trace_control(context_, who_, "list_exports");
  Result<std::vector<ExportEntry>> exports = co_await top_.list_exports(context_).as_result();
  if (!exports.ok()) {
    context_.log().error(who_, "list_exports: {}", exports.error().message());
    co_await reply_text(Option::list, OptionReply::platform, exports.error().detail());
    co_return;
  }
  // A client may well ask for each of them in turn; asking for the list again gives it no more.
  if (!std::exchange(listed_, true)) {
    options_left_ += kOptionsPerExport * static_cast<unsigned>(exports.value().size());
  }
  for (const ExportEntry& entry : exports.value()) {
    std::vector<std::byte> answer =
        number_and_text(static_cast<std::uint32_t>(entry.name.size()), entry.name);
    Data description = bytes_of(entry.description);
    answer.insert(answer.end(), description.begin(), description.end());
    co_await reply(Option::list, OptionReply::server, answer);
  }
  co_await reply(Option::list, OptionReply::ack);
}

Task<bool> Handshake::info_or_go(Option option, Data data) {
  std::optional<InfoRequest> request = parse_info_request(data);
  if (!request) {
    co_await reply_text(option, OptionReply::invalid, "the option's data is malformed");
    co_return false;
  }
  Result<void> opened = co_await open(request->export_name).as_result();
  if (!opened.ok()) {
    if (context_.gate().closed()) co_await refuse_at_stop(option);
    context_.log().error(who_, "open: {}", opened.error().message());
    const bool tls_helps = opened.error().code == kNeedsTls && rules_.tls && !context_.tls;
    OptionReply answer = tls_helps ? OptionReply::tls_required : OptionReply::unknown;
    co_await reply_text(option, answer, opened.error().detail());
    co_return false;
  }
  keep_meta_context_for(request->export_name);
  // Who only wants to know promises nothing (NBD protocol, "Block size constraints").
  const bool keeps_to_sizes = option == Option::go && wants(request->infos, Info::block_size);
  agreement_.block_size = keeps_to_sizes ? device_->properties().block_size : BlockSize();
  co_await send_infos(option, request->infos);
  if (option == Option::info) co_await close();
  co_await reply(option, OptionReply::ack);
  co_return option == Option::go;
}

Task<void> Handshake::send_infos(Option option, std::span<const Info> wanted) {
  ExportInfo info =
      export_info(device_->properties(), agreement_.read_only, agreement_.structured_replies);
  InfoExportWire wire;
  wire.size = info.size;
  wire.flags = info.transmission_flags;
  co_await reply(option, OptionReply::info, bytes_of_wire(wire));
  if (wants(wanted, Info::name)) {
    std::vector<std::byte> name = number_and_text(Info::name, context_.export_name);
    co_await reply(option, OptionReply::info, name);
  }
  if (wants(wanted, Info::description) && !info.description.empty()) {
    std::vector<std::byte> text = number_and_text(Info::description, info.description);
    co_await reply(option, OptionReply::info, text);
  }
  if (wants(wanted, Info::block_size) && info.block_size.known()) {
    InfoBlockSizeWire sizes;
    sizes.minimum = info.block_size.minimum;
    sizes.preferred = info.block_size.preferred;
    sizes.maximum = info.block_size.maximum;
    co_await reply(option, OptionReply::info, bytes_of_wire(sizes));
  }
}

Task<void> Handshake::structured_reply(Data data) {
  Option option = Option::structured_reply;
  if (agreement_.extended_headers) {
    co_await reply_text(option, OptionReply::extended_headers_required,
                        "extended headers stay as they are");
    co_return;
  }
  if (!data.empty() || agreement_.structured_replies) {
    co_await reply_text(option, OptionReply::invalid, "asked for twice, or with data");
    co_return;
  }
  agreement_.structured_replies = true;
  co_await reply(option, OptionReply::ack);
}

// They have all that structured replies have, and take their place.
Task<void> Handshake::extended_headers(Data data) {
  Option option = Option::extended_headers;
  if (!data.empty() || agreement_.extended_headers) {
    co_await reply_text(option, OptionReply::invalid, "asked for twice, or with data");
    co_return;
  }
  agreement_.structured_replies = agreement_.extended_headers = true;
  co_await reply(option, OptionReply::ack);
}

// An agreement on metadata holds for the export it was made for, and no other.
void Handshake::keep_meta_context_for(std::string_view export_name) {
  if (meta_context_export_ != export_name) agreement_.contexts.clear();
}

Task<void> Handshake::meta_context(Option option, Data data) {
  const bool set = option == Option::set_meta_context;
  if (set) agreement_.contexts.clear();  // Also when this one fails.
  std::optional<MetaContextRequest> request = parse_meta_context_request(data);
  // Without them there is nothing to ask for; a list, which nbdkit gives, does no harm.
  if (!request || (set && !agreement_.structured_replies)) {
    co_await reply_text(option, OptionReply::invalid,
                        request ? "structured replies come first" : "the option is malformed");
    co_return;
  }
  if (set) meta_context_export_ = request->export_name;
  for (const MetaContext& context : kMetaContexts) {
    if (!asks_for(request->queries, context, set)) continue;
    if (set) agreement_.contexts.add(context);
    std::vector<std::byte> answer = number_and_text(set ? context.id : 0, context.name);
    co_await reply(option, OptionReply::meta_context, answer);
  }
  co_await reply(option, OptionReply::ack);
}

// The client has asked for something, and the server is about to close the connection.
Task<void> Handshake::refuse_at_stop(Option option) {
  if (option != Option::export_name) {  // Has no reply.
    co_await reply_text(option, OptionReply::shutdown, kEnding);
  }
  co_await fail(std::errc::operation_canceled);
}

// Only here is a plugin opened: never before the client has said which export it wants.
Task<void> Handshake::open(std::string name) {
  if (name.empty()) {
    trace_control(context_, who_, "default_export");
    std::string default_name = co_await top_.default_export(context_);
    name = std::move(default_name);
  }
  context_.export_name = std::move(name);
  trace_open(context_, who_);
  DevicePtr device = co_await top_.open(context_);
  device_ = std::move(device);
}

Task<void> Handshake::close() {
  trace_control(context_, who_, "close");
  DevicePtr device = std::move(device_);
  Result<void> closed = co_await device->close().as_result();
  if (!closed.ok()) context_.log().error(who_, "close: {}", closed.error().message());
}

Task<void> Handshake::reply(Option option, OptionReply type, Data data) {
  OptionReplyWire wire;
  wire.option = option;
  wire.type = type;
  wire.length = static_cast<std::uint32_t>(data.size());
  std::vector<std::byte> whole(sizeof wire + data.size());
  std::memcpy(whole.data(), &wire, sizeof wire);
  if (!data.empty()) std::memcpy(whole.data() + sizeof wire, data.data(), data.size());
  co_await channel_.write(whole);
}

Task<void> Handshake::reply_text(Option option, OptionReply type, std::string_view text) {
  // A plugin's words may be longer than what a client has to accept.
  return reply(option, type, bytes_of(text.substr(0, kStringMax)));
}

}  // namespace nbdkit
