// SPDX-License-Identifier: BSD-3-Clause
#include "attach/metrics.h"

#include <fmt/format.h>

#include <initializer_list>
#include <string_view>
#include <utility>

namespace nbdkit {
namespace {

constexpr double kMillisecondsPerSecond = 1000.0;

double seconds_of(Nanoseconds time) { return std::chrono::duration<double>(time).count(); }

struct Label {
  std::string_view name;
  std::string_view value;
};

std::string escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

class Writer {
 public:
  explicit Writer(std::string device) : device_(std::move(device)) {}

  // Begins a metric; its samples follow.
  void begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP nbdkit_attach_{0} {1}\n# TYPE nbdkit_attach_{0} {2}\n", name, help,
                         type);
  }
  template <typename Number>
  void sample(Number value, std::initializer_list<Label> labels = {},
              std::string_view suffix = {}) {
    text_ += fmt::format("nbdkit_attach_{}{}{{device=\"{}\"", name_, suffix, device_);
    for (const Label& label : labels) {
      text_ += fmt::format(",{}=\"{}\"", label.name, escape(label.value));
    }
    text_ += fmt::format("}} {}\n", value);
  }
  template <typename Number>
  void single(std::string_view name, std::string_view type, std::string_view help, Number value) {
    begin(name, type, help);
    sample(value);
  }
  std::string take() { return std::move(text_); }

 private:
  const std::string device_;
  std::string_view name_;
  std::string text_;
};

void write_status(Writer& out, const AttachmentStatus& status) {
  out.begin("info", "gauge", "What is attached; always 1.");
  out.sample(1, {{"name", status.name},
                 {"plugin", status.plugin},
                 {"export", status.export_name},
                 {"survives", status.survives}});
  out.single("size_bytes", "gauge", "Size of the device.", status.device.size);
  out.begin("state", "gauge", "1 for the state that the device is in, else 0.");
  for (DeviceState state : {DeviceState::connected, DeviceState::degraded, DeviceState::waiting,
                            DeviceState::failed, DeviceState::lost, DeviceState::detaching}) {
    out.sample(state == status.state ? 1 : 0, {{"state", state_name(state)}});
  }
  out.begin("pid", "gauge", "Numbers of the processes.");
  if (status.pid) out.sample(*status.pid, {{"process", "keeper"}});
  if (status.server_pid) out.sample(*status.server_pid, {{"process", "server"}});
  out.single("connections", "gauge", "Sockets between kernel and server.",
             status.connections.value_or(0));
  out.single("connections_dead", "gauge", "Of these, dead ones.", status.connections_dead);
  out.single("restarts_total", "counter", "Servers that followed one that had ended by itself.",
             status.restarts);
  out.single("upgrades_total", "counter", "Servers that took the place of one that ran.",
             status.upgrades);
}

void write_counters(Writer& out, const NbdCounters& counters) {
  const std::initializer_list<std::pair<std::string_view, const NbdCounters::Kind*>> kinds = {
      {"read", &counters.reads},
      {"write", &counters.writes},
      {"trim", &counters.trims},
      {"flush", &counters.flushes}};
  out.begin("requests_total", "counter", "Requests that are done; zeroes count as writes.");
  for (const auto& [name, kind] : kinds) out.sample(kind->requests, {{"operation", name}});
  out.begin("transferred_bytes_total", "counter", "Bytes of these requests.");
  for (const auto& [name, kind] : kinds) {
    if (kind != &counters.flushes) out.sample(kind->bytes, {{"operation", name}});
  }
  out.begin("request_seconds_total", "counter", "Time that these requests took together.");
  for (const auto& [name, kind] : kinds) {
    out.sample(static_cast<double>(kind->milliseconds) / kMillisecondsPerSecond,
               {{"operation", name}});
  }
}

// Only every fourth limit: a scrape need not be finer than a doubling.
void write_latency(Writer& out, const RequestFigures& figures) {
  constexpr std::size_t kStep = 4;
  out.begin("server_request_duration_seconds", "histogram",
            "What requests took from when they were received to their answer.");
  std::uint64_t below = 0;
  for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    below += figures.latency.count(i);
    if (i % kStep != 0) continue;
    const std::string limit = fmt::format("{}", seconds_of(LatencyHistogram::limit_of(i)));
    out.sample(below, {{"le", limit}}, "_bucket");
  }
  out.sample(figures.latency.total(), {{"le", "+Inf"}}, "_bucket");
  out.sample(seconds_of(figures.latency_total), {}, "_sum");
  out.sample(figures.latency.total(), {}, "_count");
}

void write_figures(Writer& out, const RequestFigures& figures) {
  auto each = [&](std::uint64_t RequestFigures::Kind::*what) {
    for (std::size_t i = 0; i < kRequestKindNames.size(); ++i) {
      out.sample(figures.kinds[i].*what, {{"operation", kRequestKindNames[i]}});
    }
  };
  out.begin("server_requests_total", "counter", "Requests that this server has answered.");
  each(&RequestFigures::Kind::requests);
  out.begin("server_bytes_total", "counter", "Bytes of these that have not failed.");
  each(&RequestFigures::Kind::bytes);
  out.begin("server_failed_total", "counter", "Of these, those that were answered with an error.");
  each(&RequestFigures::Kind::failed);
  out.single("server_requests_under_way", "gauge", "Requests that the server is at.",
             figures.under_way);
  out.single("server_oldest_request_seconds", "gauge", "Age of the oldest of these; 0: none.",
             seconds_of(figures.oldest.value_or(Nanoseconds(0))));
  write_latency(out, figures);
}

}  // namespace

std::string format_metrics(const AttachmentStatus& status,
                           const std::optional<NbdCounters>& counters,
                           const RequestFigures* figures,
                           std::optional<std::int64_t> last_error_at) {
  Writer out(status.device.node());
  write_status(out, status);
  out.begin("requests_in_flight", "gauge", "Requests that the kernel waits for.");
  out.sample(status.device.reads_in_flight, {{"operation", "read"}});
  out.sample(status.device.writes_in_flight, {{"operation", "write"}});
  if (counters) write_counters(out, *counters);
  out.single("server_answers", "gauge", "1 when the server has told of what it does, else 0.",
             figures != nullptr ? 1 : 0);
  if (figures != nullptr) write_figures(out, *figures);
  if (status.performance && status.performance->p50) {
    out.begin("server_latency_seconds", "gauge", "What requests of the last seconds took at most.");
    out.sample(seconds_of(*status.performance->p50), {{"quantile", "0.5"}});
    out.sample(seconds_of(*status.performance->p99), {{"quantile", "0.99"}});
  }
  if (last_error_at) {
    out.single("last_error_timestamp_seconds", "gauge",
               "When the last server ended by itself or could not be started.", *last_error_at);
  }
  return out.take();
}

}  // namespace nbdkit
